"""Corrupted samples: what each kind does to them, and that only the position of a sample decides on what is drawn."""

import json

import numpy as np
import pytest
from torch import nn

from spikedistill.config.check import parse_config
from spikedistill.data.loading.inputs import InputConfig, Resize
from spikedistill.data.store import open_store
from spikedistill.errors import ConfigError
from spikedistill.evaluate.batches import batch_size, evaluation_loader
from spikedistill.evaluate.corruption import KINDS, corrupt, corrupted_batches
from spikedistill.evaluate.measure import measure, measure_robustness
from spikedistill.evaluate.settings import EVALUATION, PREDICTIONS, CorruptionConfig, EnergyConfig
from spikedistill.models import ModelOutput
from spikedistill.plan.build import build_plan
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import MANIFEST, Store
from spikedistill.train.distributed import World

GREY = np.full((200, 3, 16, 16), 128, np.uint8)
COUNTS = np.random.default_rng(0).integers(0, 4, (20, 2, 2, 16, 16)).astype(np.uint8)
IMAGES = np.random.default_rng(1).integers(0, 256, (6, 3, 12, 10)).astype(np.uint8)
SAMPLES = {"images": IMAGES, "frames": COUNTS}


def samples_of(kind):
    return SAMPLES[CorruptionConfig.KINDS[kind]]


def test_every_kind_of_the_configuration_can_be_made():
    assert list(KINDS) == list(CorruptionConfig.KINDS) == list(CorruptionConfig.model_fields)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_changes_nothing(kind):
    assert np.array_equal(corrupt(samples_of(kind), kind, 0.0, 0), samples_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_depends_on_its_position_and_on_no_neighbour(kind):
    samples = np.repeat(samples_of(kind)[:1], 4, 0)
    before = samples.copy()
    whole = corrupt(samples, kind, 0.5, 7)
    assert np.array_equal(whole[2:], corrupt(samples[2:], kind, 0.5, 9))
    assert np.array_equal(samples, before)
    if kind != "contrast":  # which draws nothing
        assert not np.array_equal(whole[0], whole[1])


def test_noise_has_the_given_deviation_and_no_mean():
    noisy = corrupt(GREY, "noise", 0.1, 0).astype(float)
    assert noisy.dtype == np.float64
    assert (noisy.mean() - 128) == pytest.approx(0, abs=0.2)  # standard error 25.5 / sqrt(153600) = 0.065
    assert noisy.std() / 255 == pytest.approx(0.1, rel=0.01)
    flat = (noisy - 128).reshape(200, -1)
    assert abs(np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]) < 0.015  # samples are independent
    assert np.mean(np.abs(flat) < 25.5) == pytest.approx(0.683, abs=0.01)  # share within one deviation of a Gaussian


def test_noise_is_clipped_to_the_range_of_pixels():
    black, white = np.zeros_like(GREY), np.full_like(GREY, 255)
    dark, bright = (corrupt(each, "noise", 0.5, 0) for each in (black, white))
    assert dark.dtype == np.uint8
    assert np.mean(dark == 0) == pytest.approx(0.5, abs=0.01)  # nothing wraps around
    assert np.mean(bright == 255) == pytest.approx(0.5, abs=0.01)
    assert np.mean(dark == 255) == pytest.approx(0.0228, abs=0.003)  # two deviations


def test_a_square_of_the_given_share_is_occluded_at_places_all_over_the_image():
    occluded = corrupt(GREY, "occlude", 0.25, 0)
    assert np.array_equal(occluded[:, 0], occluded[:, 2])
    rows, columns = ((occluded[:, 0] == 0).any(axis) for axis in (2, 1))
    assert set(rows.sum(1)) == set(columns.sum(1)) == {4}
    assert ((occluded[:, 0] == 0).sum((1, 2)) == 16).all()
    assert set(rows.argmax(1)) == set(columns.argmax(1)) == set(range(13))
    assert (corrupt(IMAGES, "occlude", 1.0, 0) == 0).sum((1, 2, 3)).tolist() == [3 * 10 * 10] * 6  # the shorter side


def test_contrast_moves_pixels_towards_the_mean_of_their_channel():
    image = np.array([[[[0, 200]], [[10, 10]]]], np.uint8)
    assert corrupt(image, "contrast", 0.5, 0).tolist() == [[[[50, 150]], [[10, 10]]]]
    assert corrupt(image, "contrast", 1.0, 0).tolist() == [[[[100, 100]], [[10, 10]]]]


def test_dropping_events_never_adds_one_and_drops_the_given_share():
    kept = {strength: corrupt(COUNTS, "drop_events", strength, 0) for strength in (0.25, 0.5, 1.0)}
    total = int(COUNTS.sum())
    assert all(each.dtype == COUNTS.dtype and (each <= COUNTS).all() for each in kept.values())
    assert kept[0.25].sum() / total == pytest.approx(0.75, abs=0.01)  # standard error 0.0028
    assert kept[0.5].sum() / total == pytest.approx(0.5, abs=0.012)
    assert (kept[0.5] <= kept[0.25]).all()  # who is lost stays lost
    assert not kept[1.0].any()


def test_dropping_events_thins_counts_binomially():
    counts = np.full((50, 1, 2, 16, 16), 300, np.uint16)
    kept = corrupt(counts, "drop_events", 0.25, 0)
    assert kept.dtype == np.uint16
    assert kept.mean() == pytest.approx(225, rel=0.002)
    assert kept.var() == pytest.approx(300 * 0.25 * 0.75, rel=0.05)


@pytest.mark.parametrize("mean", [0.05, 2.0, 100.0])
def test_noise_events_have_mean_and_variance_of_a_poisson_distribution(mean):
    added = corrupt(COUNTS, "noise_events", mean, 0).astype(int) - COUNTS
    assert (added >= 0).all()
    assert added.mean() == pytest.approx(mean, rel=0.05)
    assert added.var() == pytest.approx(mean, rel=0.05)
    assert np.mean(added == 0) == pytest.approx(np.exp(-mean), abs=0.01)


def test_noise_events_do_not_wrap_around():
    full = np.full((1, 1, 2, 4, 4), 255, np.uint8)
    assert (corrupt(full, "noise_events", 50.0, 0) > 255).all()
    full = full.astype(np.uint16) * 257
    assert (corrupt(full, "noise_events", 50.0, 0) == 65535).all()


def prepared(name, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp(name) / "store")
    student = {"arch": "resnet8", "width": 1.25, "time_steps": 4, "train": {"epochs": 1, "batch_size": 64}}
    experiment = {"dataset": {"name": name, "params": {"num_frames": 4} if "dvs" in name else {}}, "student": student}
    plan = build_plan(parse_config({"experiments": {"x": experiment | {"methods": {"ce": {}}}}}))
    return open_store(run_stage(next(iter(plan.stages.values())), store, RunOptions()))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepared("digits", tmp_path_factory)


@pytest.fixture(scope="module")
def digits_dvs(tmp_path_factory):
    return prepared("digits-dvs", tmp_path_factory)


class Columns(nn.Module):
    """Ten logits that depend on everything in a sample: sums of some of its values."""

    def forward(self, x):
        flat = x.flatten(-3)
        return ModelOutput(flat[..., : flat.shape[-1] // 10 * 10].unflatten(-1, (10, -1)).sum(-1), x)


@pytest.mark.parametrize(
    ("name", "kinds"), [("digits", ("noise", "occlude", "contrast")), ("digits_dvs", ("drop_events", "noise_events"))]
)
@pytest.mark.parametrize("inputs", [InputConfig(), InputConfig(resize=Resize(size=12, antialias=True))])
def test_strength_0_gives_exactly_the_clean_scores_and_others_do_not(name, kinds, inputs, request):
    data = request.getfixturevalue(name)
    loader = evaluation_loader(data, "test", inputs, World())
    clean = measure(Columns(), loader, World(), num_classes=10, energy=EnergyConfig()).metrics
    corruptions = CorruptionConfig(**dict.fromkeys(kinds, (0.0, 0.4)))
    found = measure_robustness(Columns(), data, "test", inputs, World(), corruptions)
    assert [(each["kind"], each["strength"]) for each in found] == [(kind, s) for kind in kinds for s in (0.0, 0.4)]
    for same, other in zip(found[::2], found[1::2], strict=True):
        assert {key: same[key] for key in ("accuracy", "nll", "ece")} == {key: clean[key] for key in ("accuracy", "nll", "ece")}
        assert other["nll"] != clean["nll"]


def test_ranks_share_the_batches_of_one_and_corrupt_them_alike(digits):
    size = batch_size(len(digits.split("test")))

    def batches(rank, ranks):
        starts = range(rank * size, len(digits.split("test")), ranks * size)
        return {
            start: batch.samples for start, batch in corrupted_batches(digits, "test", starts, size, kind="noise", strength=0.3)
        }

    alone, shared = batches(0, 1), batches(0, 2) | batches(1, 2)
    assert alone.keys() == shared.keys()
    assert sum(map(len, alone.values())) == len(digits.split("test"))
    assert all(np.array_equal(alone[start], shared[start]) for start in alone)


CONFIG = {
    "dataset": {"name": "digits"},
    "student": {"arch": "resnet8", "width": 1.25, "time_steps": 4, "train": {"epochs": 1, "batch_size": 64}},
    "methods": {"ce": {}},
}
EVENTS = CONFIG | {"dataset": {"name": "digits-dvs", "params": {"num_frames": 4}}}


def evaluations(experiments, corruptions):
    values = {"experiments": experiments} | ({} if corruptions is None else {"evaluate": {"corruptions": corruptions}})
    plan = build_plan(parse_config(values))
    return [plan.stages[row.evaluation] for row in plan.rows]


def test_without_corruptions_an_evaluation_keeps_its_id():
    (before,), (none,), (empty,) = (evaluations({"a": CONFIG}, each) for each in (None, {}, {"noise": []}))
    assert before.id == none.id == empty.id
    assert "corruptions" not in before.model_dump(exclude_defaults=True)["settings"]
    assert evaluations({"a": CONFIG}, {"noise": [0.1]})[0].id != before.id


def test_a_kind_for_other_data_leaves_an_evaluation_as_it_is():
    both = {"a": CONFIG, "b": EVENTS}
    (images, frames), (images_before, frames_before) = evaluations(both, {"drop_events": [0.5]}), evaluations(both, None)
    assert images.ref == images_before.ref
    assert frames.ref != frames_before.ref


@pytest.mark.parametrize(
    ("experiment", "corruptions", "message"),
    [
        (CONFIG, {"drop_events": [0.5]}, r"evaluate\.corruptions\.drop_events: is for event frames, and all datasets are images"),
        (EVENTS, {"noise": [0.5]}, r"evaluate\.corruptions\.noise: is for images, and all datasets are event frames"),
        (CONFIG, {"noise": [0.1, 0.1]}, r"evaluate\.corruptions\.noise: .*each strength may appear once"),
        (CONFIG, {"occlude": [1.5]}, r"evaluate\.corruptions\.occlude.*less than or equal to 1"),
        (CONFIG, {"noise": 0.1}, r"evaluate\.corruptions\.noise: .*a list of strengths is expected: \[0\.1\]"),
        (CONFIG, {"nois": [0.1]}, r"evaluate\.corruptions.*noise"),
    ],
)
def test_what_cannot_be_measured_is_told_with_its_key(experiment, corruptions, message):
    with pytest.raises(ConfigError, match=message):
        evaluations({"a": experiment}, corruptions)


def test_an_evaluation_holds_the_prediction_of_every_test_sample(trained):
    folder = trained.store.path(next(row.evaluation for row in trained.plan.rows if row.method == "kd"))
    measured = json.loads((folder / EVALUATION).read_text())
    with np.load(folder / PREDICTIONS, allow_pickle=False) as arrays:
        prediction, label = arrays["prediction"], arrays["label"]
    assert prediction.dtype == label.dtype == np.uint8
    data = open_store(trained.store.path(trained.plan.stages[trained.student].data))
    assert np.array_equal(label, data.labels[data.split("test")])
    assert np.mean(prediction == label) == measured["accuracy"]
    assert "robustness" not in measured
    assert PREDICTIONS in json.loads((folder / MANIFEST).read_text())["files"]
