from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from spikedistill.report.tensorboard import write_tensorboard

RUN = "students/digits-resnet_small-tet-seed0-0123456789"


@pytest.fixture
def read(tmp_path):
    def read_run(name):
        return EventAccumulator(str(tmp_path / name)).Reload()

    return read_run


def test_every_measured_run_has_results_pictures_and_hyperparameters(records, tmp_path, read):
    records[1].manifest["spec"] = {"arch": "resnet8", "train": {"lr": 0.1, "weight_decay_on": "weights"}, "teacher": None}
    write_tensorboard(records, tmp_path)
    runs = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("events.*")}
    assert len(runs) == 4  # one student was not measured; the one of digits-dvs has the name of one of digits
    run = read(RUN.replace("seed0", "seed1"))
    assert run.Scalars("eval/accuracy(%)")[0].value == pytest.approx(94)
    assert [(e.step, round(e.value)) for e in run.Scalars("accuracy_over_time/mean_of_first_t(%)")] == [(1, 69), (2, 94)]
    assert [e.value for e in run.Scalars("train/loss")] == [2.0, 1.0, pytest.approx(2 / 3)]
    assert {tag.partition("/")[0] for tag in run.Tags()["scalars"]} == {"train", "eval", "accuracy_over_time", "firing_rate"}
    assert run.Tags()["images"] == ["examples/samples", "examples/attention"]
    picture = run.Images("examples/samples")[0]
    assert picture.height >= 96
    assert picture.encoded_image_string.startswith(b"\x89PNG")


def test_hyperparameters_are_words_and_numbers_of_the_spec(make, tmp_path, read):
    student = make.student("tet", 0, 0.9)
    student.manifest["spec"] = {"arch": "resnet8", "train": {"lr": 0.1, "sync": True}, "teacher": None}
    write_tensorboard([student], tmp_path)
    content = read(RUN).summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    session = metadata.parse_session_start_info_plugin_data(content)
    values = {key: value.string_value or value.number_value for key, value in session.hparams.items()}
    assert values == {"experiment": "digits", "arch": "resnet8", "train.lr": 0.1, "train.sync": "True"}


def test_scalars_of_training_stay_and_those_of_an_earlier_report_are_replaced(make, tmp_path, read):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / RUN)) as writer:
        writer.add_scalar("train/loss", 7.0, 0)
    student = make.student("tet", 0, 0.9, metrics=[{"epoch": 0, "train/loss": 2.0}])
    write_tensorboard([student], tmp_path)
    write_tensorboard([student], tmp_path)
    assert [event.value for event in read(RUN).Scalars("train/loss")] == [7.0]
    assert len(read(RUN).Scalars("eval/accuracy(%)")) == 1


def test_accuracies_on_corrupted_samples_are_scalars(make, tmp_path, read):
    student = make.student("tet", 0, 0.9)
    student.evaluation["robustness"] = [{"kind": "noise", "strength": 0.1, "accuracy": 0.75, "nll": 1.0, "ece": 0.1}]
    write_tensorboard([student], tmp_path)
    assert read(RUN).Scalars("eval/noise_0.1(%)")[0].value == pytest.approx(75)
