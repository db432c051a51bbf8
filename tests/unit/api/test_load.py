"""`spikedistill.load`: the network of an artifact or an export, ready for samples as they are stored."""

import json
import shutil

import numpy as np
import pytest
import torch

import spikedistill
from spikedistill.api.trained import InputFacts, TrainedNetwork
from spikedistill.config.check import parse_config
from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.errors import ArtifactError, ConfigError
from spikedistill.evaluate.batches import batch_size
from spikedistill.export.folder import write_export
from spikedistill.plan.build import build_plan
from spikedistill.report.compare import newest_evaluation


@pytest.fixture(scope="module")
def test_split(trained):
    data = spikedistill.open_data(trained.student, trained.store)
    rows = data.split("test")
    return data.take(rows), data.labels[rows]


@pytest.fixture(scope="module")
def student(trained):
    return spikedistill.load(trained.student, trained.store)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_accuracy_on_the_test_split_is_that_of_the_evaluation(trained, test_split, role):
    ref = getattr(trained, role)
    network, (samples, labels) = spikedistill.load(ref, trained.store), test_split
    size = batch_size(len(labels))
    predictions = np.concatenate([network.predict(samples[start : start + size]) for start in range(0, len(samples), size)])
    assert (predictions == labels).mean() == newest_evaluation(trained.store, ref)["accuracy"]
    assert network.predict(samples).tolist() == predictions.tolist()


def test_a_name_its_beginning_the_folder_and_an_export_are_the_same_network(trained, student, test_split, tmp_path):
    write_export(trained.store, trained.student, tmp_path / "exported")
    batch = test_split[0][:5]
    places = [
        ("digits-resnet8-kd", trained.store.root),
        (trained.store.path(trained.student), "nowhere"),
        (str(tmp_path / "exported"), "nowhere"),
    ]
    for place, store in places:
        network = spikedistill.load(place, store)
        assert torch.equal(network(batch).logits, student(batch).logits)
        assert network.class_names == tuple("0123456789")
        assert network.spec == student.spec
        assert network.takes == student.takes


def test_numpy_and_tensors_integers_and_inputs_that_are_ready_give_the_same(student, test_split, trained):
    samples = test_split[0][:7]
    logits = student(samples).logits
    data = spikedistill.open_data(trained.student, trained.store)
    ready = next(Loader(data, "test", batch_size=7).epoch(0))[0]
    for batch in (torch.from_numpy(samples), samples.astype(np.int64), ready, ready.double().numpy()):
        assert torch.equal(student(batch).logits, logits)


def test_spikes_of_each_layer_on_request(student, test_split, trained):
    samples = test_split[0][:3]
    assert student(samples).spikes is None
    spikes = student(samples, spikes=True).spikes
    assert next(iter(spikes)) == "stem.lif"
    assert all(each.dtype == torch.bool and each.shape[:2] == (2, 3) for each in spikes.values())
    assert sum(int(each.sum()) for each in spikes.values()) > 0
    measured = newest_evaluation(trained.store, trained.student)["firing_rate"]["layers"]
    everything = student(test_split[0], spikes=True).spikes
    assert {layer["name"]: pytest.approx(layer["rate"], abs=1e-3) for layer in measured} == {
        name: float(each.double().mean()) for name, each in everything.items()
    }
    assert spikedistill.load(trained.teacher, trained.store)(samples, spikes=True).spikes == {}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((2, 1, 9, 9), np.uint8), r"as stored, \[B, 1, 8, 8\]; found \[2, 1, 9, 9\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"\[B, 1, 8, 8\]; found \[2, 3, 8, 8\]"),
        (np.zeros((1, 8, 8), np.float32), r"ready for it, \[B, 1, 8, 8\]; found \[1, 8, 8\]"),
        (np.zeros((2, 4, 1, 8, 8), np.uint8), r"found \[2, 4, 1, 8, 8\]"),
        (np.zeros((0, 1, 8, 8), np.uint8), r"found \[0, 1, 8, 8\]"),
        (np.full((2, 1, 8, 8), 256), "images of 0 to 255; found 256 to 256"),
        (np.zeros((2, 1, 8, 8), bool), "found torch.bool"),
    ],
)
def test_a_batch_that_does_not_fit_is_an_error(student, batch, message):
    with pytest.raises(ValueError, match=message):
        student(batch)


def test_what_is_not_there_not_a_network_or_damaged_is_an_error(trained, tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match="no such folder"):
        spikedistill.load("digits", tmp_path / "none")
    with pytest.raises(ArtifactError, match="unknown artifact"):
        spikedistill.load("cifar", trained.store)
    with pytest.raises(ConfigError, match="is not a network, but the result of stage preprocess"):
        spikedistill.load(trained.plan.stages[trained.student].data, trained.store)
    with pytest.raises(ConfigError, match="neither an artifact"):
        spikedistill.load(tmp_path)
    shutil.copytree(trained.store.root, tmp_path / "store")
    weights = tmp_path / "store" / trained.student / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="damaged artifact"):
        spikedistill.load(tmp_path / "store" / trained.student)


def test_an_export_whose_weights_were_changed_is_an_error(trained, tmp_path):
    write_export(trained.store, trained.student, tmp_path / "out")
    weights = tmp_path / "out" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="does not match its checksum"):
        spikedistill.load(tmp_path / "out")
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    del about["sha256"]  # as earlier versions wrote it
    (tmp_path / "out" / "model.json").write_text(json.dumps(about))
    assert spikedistill.load(tmp_path / "out").class_names == tuple("0123456789")


INPUTS = [{}, {"encoding": "counts_255"}, {"encoding": "pil_wrap"}, {"resize": {"size": 6, "antialias": True}}]


@pytest.mark.parametrize("inputs", INPUTS, ids=str)
def test_event_frames_become_inputs_as_in_the_evaluation(inputs):
    counts = np.random.default_rng(0).integers(0, 600, (5, 4, 2, 8, 8)).astype(np.uint16)
    data = SampleStore("frames", counts, np.zeros(5, np.int64), {"test": np.arange(5)}, ("a", "b"), mean=None, std=None)
    expected, _ = next(Loader(data, "test", batch_size=5, inputs=InputConfig.model_validate(inputs)).epoch(0))
    network = of_frames(inputs)
    for batch in (counts.swapaxes(0, 1), torch.from_numpy(counts.astype(np.int32)).transpose(0, 1)):
        assert torch.equal(network.prepare(batch), expected)
    assert network(counts.swapaxes(0, 1)).logits.shape == (4, 5, 2)
    with pytest.raises(
        ValueError, match=r"takes frames as stored, \[4, B, 2, 8, 8\]; found \[5, 4, 2, 8, 8\]: the time step comes"
    ):
        network(counts)


def test_spikes_of_neurons_that_fire_several_times_in_a_step_are_numbers():
    torch.manual_seed(0)
    network = of_frames({}, {"name": "ilif", "params": {"most_spikes": 3}})
    spikes = network(np.full((4, 5, 2, 8, 8), 9), spikes=True).spikes["stem.ilif"]
    assert spikes.dtype == torch.int32
    assert spikes.shape[:2] == (4, 5)
    assert set(spikes.unique().tolist()) <= {0, 1, 2, 3}
    assert spikes.max() > 1


def of_frames(inputs, neuron=None):
    """A student of event frames that learnt nothing."""
    student = {"arch": "resnet8_dvs", "time_steps": 4, "train": {"epochs": 1, "batch_size": 4}}
    config = {"dataset": {"name": "digits-dvs", "inputs": inputs}, "student": student, "methods": {"tet": {}}}
    plan = build_plan(parse_config({"experiments": {"e": config}}))
    spec = next(spec for spec in plan.stages.values() if spec.stage == "distill")
    student = spikedistill.create_student("resnet8_dvs", num_classes=2, in_channels=2, time_steps=4, neuron=neuron)
    size = InputConfig.model_validate(inputs).size(8, 8)
    return TrainedNetwork(student, spec, ("a", "b"), InputFacts("frames", (4, 2, 8, 8), size, (), ()))
