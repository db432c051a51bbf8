"""On real GPUs: whole runs, of one rank and of as many as there are GPUs, killed and resumed, evaluated and exported."""

import json
import time

import pytest
import torch
from torch.testing import assert_close

from spikedistill.config.check import parse_config
from spikedistill.export.folder import load, write_export
from spikedistill.plan.build import build_plan
from spikedistill.stages.evaluate import EVALUATION
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store
from tests.gpu.rank import finish, start
from tests.gpu.training import Case
from tests.image_files import cifar10_pickles

pytestmark = [pytest.mark.only_real, pytest.mark.slow]

SYNCHRONISED = {"sync_batchnorm": True}
LOOSE = {"rtol": 0.05, "atol": 0.02}
"""Of weights: kernels of a GPU add in no fixed order, and spikes at the threshold amplify that."""


def small(**train):
    return Case("ce", arch="resnet8", batch_size=16, steps=6, train={"epochs": 3, **train})


def assert_alike(found, expected):
    for name, value in expected.items():
        assert_close(found[name].float(), value.float(), **LOOSE, msg=lambda text, name=name: f"{name}: {text}")


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(gpu, tmp_path):
    expected = finish(start(tmp_path / "unbroken", small()), tmp_path / "unbroken")
    (process,) = start(tmp_path / "killed", small())
    while not list((tmp_path / "killed" / "checkpoints").glob("epoch-000001-*")):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert_alike(finish(start(tmp_path / "killed", small()), tmp_path / "killed"), expected)
    losses = [
        [json.loads(line)["train/loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("unbroken", "killed")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.gpus(2)
@pytest.mark.parametrize("engine", [{}, {"cuda_graph": True}], ids=["plain", "graph"])
def test_the_number_of_gpus_does_not_change_synchronised_training(gpu, tmp_path, engine):
    case = Case(**vars(small(**SYNCHRONISED)) | {"engine": engine, "steps": 16})
    one = finish(start(tmp_path / "one", case), tmp_path / "one")
    ranks = 1 << (torch.cuda.device_count().bit_length() - 1)  # a power of two divides the batch
    assert_alike(finish(start(tmp_path / "all", case, ranks=min(ranks, 16)), tmp_path / "all"), one)


SMALL = {
    "dataset": {"name": "cifar10", "root": ".", "params": {"strict": False}},
    "teacher": {"arch": "resnet8", "train": {"epochs": 10, "batch_size": 50}},
    "student": {"arch": "resnet8", "time_steps": 2, "neuron": {"threshold": 0.5}, "train": {"epochs": 10, "batch_size": 50}},
    "methods": {"kd": {}},
}
"""An experiment on pictures in the format of CIFAR-10 whose colour tells their class."""


def trained(root, precision):
    """Run its stages on the GPU; return the store, the plan and what was measured on the student."""
    raw = root / "raw" / "cifar-10-batches-py"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in cifar10_pickles(200).items():
        (raw / name).write_bytes(content)
    student = SMALL["student"] | {"train": SMALL["student"]["train"] | {"precision": precision}}
    plan = build_plan(parse_config({"experiments": {"one": SMALL | {"student": student}}}))
    store = Store(root / precision)
    for spec in plan.stages.values():
        run_stage(spec, store, RunOptions(results=root / "results", raw=root / "raw"))
    measured = store.open(evaluation_of_the_student(plan).ref) / EVALUATION
    return store, plan, json.loads(measured.read_text(encoding="utf-8"))


def evaluation_of_the_student(plan):
    return next(spec for spec in plan.stages.values() if spec.stage == "evaluate" and spec.model.startswith("students/"))


def test_bf16_is_as_accurate_as_float32_and_an_export_runs_on_a_cpu(gpu, tmp_path):
    store, plan, exact = trained(tmp_path, "float32")
    _, _, rounded = trained(tmp_path, "bf16")
    assert exact["accuracy"] > 0.8
    assert abs(exact["accuracy"] - rounded["accuracy"]) < 0.1
    ref = next(ref for ref in plan.stages if ref.startswith("students/"))
    write_export(store, ref, tmp_path / "export")
    network = load(tmp_path / "export")
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_evaluation_on_the_gpu_agrees_with_the_cpu(gpu, tmp_path, monkeypatch):
    store, plan, on_gpu = trained(tmp_path, "float32")
    spec = evaluation_of_the_student(plan)
    store.open(spec.ref).rename(tmp_path / "measured")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run_stage(spec, store, RunOptions(results=tmp_path / "results"))
    on_cpu = json.loads((store.open(spec.ref) / EVALUATION).read_text(encoding="utf-8"))
    assert abs(on_cpu["accuracy"] - on_gpu["accuracy"]) < 0.01
    assert on_cpu["firing_rate"]["mean"] == pytest.approx(on_gpu["firing_rate"]["mean"], rel=0.01)
    assert on_cpu["timing"]["device"] == "cpu" != on_gpu["timing"]["device"]
