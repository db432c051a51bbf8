"""Students of every kind of neuron and encoding through the stages: trained, measured, exported and read back."""

import json

import pytest
import torch

from spikedistill.config.check import parse_config
from spikedistill.export import load
from spikedistill.export.folder import write_export
from spikedistill.plan.build import build_plan
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store

pytestmark = pytest.mark.slow
TRAIN = {"epochs": 2, "batch_size": 64, "lr": 0.05}
STUDENTS = {
    "learnt decay": {"neuron": {"name": "plif"}},
    "integers": {"neuron": {"name": "ilif", "decay": 0.25}},
    "adaptive threshold": {"neuron": {"name": "alif", "threshold": 0.5}},
    "of SpikingJelly": {"neuron": {"name": "spikingjelly/KLIFNode", "params": {"v_threshold": 0.3}}},
    "poisson": {"encoding": "poisson"},
    "latency": {"encoding": "latency"},
    "poisson, rate-based": {"encoding": "poisson", "backward": "rate"},
}


def run(folder, student):
    """Every stage of an experiment on digits: the store, the plan, and the evaluation."""
    section = {"arch": "resnet8", "width": 0.5, "time_steps": 3, "train": TRAIN, **student}
    experiment = {"dataset": {"name": "digits"}, "student": section, "methods": {"ce": {}}}
    store = Store(folder / "store")
    plan = build_plan(parse_config({"seeds": [0], "experiments": {"one": experiment}}))
    made = [run_stage(spec, store, RunOptions(results=folder / "results")) for spec in plan.stages.values()]
    return store, plan, json.loads((made[-1] / "evaluation.json").read_text())


@pytest.mark.parametrize("student", STUDENTS.values(), ids=STUDENTS)
def test_it_trains_is_measured_and_exported(tmp_path, student):
    store, plan, evaluation = run(tmp_path, student)
    (ref,) = [ref for ref, spec in plan.stages.items() if spec.stage == "distill"]
    layers = evaluation["operations"]["layers"]
    assert evaluation["accuracy"] > 0.2  # of ten classes, after two epochs
    assert evaluation["firing_rate"]["mean"] > 0.01
    assert layers[0]["spiking_input"] == ("encoding" in student)
    assert all(layer["spiking_input"] for layer in layers[1:-1])

    write_export(store, ref, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "neuron" not in student or f"`{student['neuron']['name']}` neurons" in card
    assert "encoding" not in student or f"images as {student['encoding']} spikes" in card
    network = load(tmp_path / "out")
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(network(x[:3]).logits, network(x).logits[:, :3])


def test_poisson_draws_are_the_same_when_a_run_is_repeated(tmp_path):
    stores = [run(tmp_path / name, {"encoding": "poisson"}) for name in ("one", "two")]
    weights = []
    for store, plan, _ in stores:
        (ref,) = [ref for ref, spec in plan.stages.items() if spec.stage == "distill"]
        weights.append((store.open(ref) / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert stores[0][2]["accuracy"] == stores[1][2]["accuracy"]
