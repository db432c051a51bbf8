"""What methods train beside the student: from the seed, over ranks, through checkpoints, and not in the trained network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.contract.methods import parts_are_trained
from spikedistill.contract.training import networks_of, spec_of
from spikedistill.errors import ConfigError
from spikedistill.models import ModelOutput, build_teacher
from spikedistill.plan.build import build_plan
from spikedistill.stages.method_parts import add_parts, shapes_of
from spikedistill.stages.network_io import save_network
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store
from spikedistill.train.distributed import World
from spikedistill.train.optim import build_optimizer
from tests.unit.distill import train_parts
from tests.unit.train.rank import free_port

METHODS = [name for name in components.names("distill") if hasattr(components.load("distill", name), "build")]
CASES = {
    "hint": {"method": "fitnet"},
    "each hint": {"method": "fitnet", "params": {"hint": "each", "beta": 1.0}},
    "blur": {"method": "bkdsnn"},
    "blur, accumulated": {"method": "bkdsnn", "pieces": 4},
    "blur at a rate": {"method": "bkdsnn", "backward": "rate"},
    "joint": {"method": "kdsnn", "checkpoint_activations": True},
    "joint at a rate": {"method": "kdsnn", "backward": "rate"},
}


def test_the_methods_with_parts():
    assert set(METHODS) >= {"fitnet", "bkdsnn", "kdsnn"}


def start(folder, ranks):
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps(CASES))
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(ranks)}
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-m", "tests.unit.distill.train_parts", str(folder)]
    processes = [
        subprocess.Popen(command, cwd=root, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(ranks)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), errors


@pytest.mark.slow
def test_two_ranks_train_parts_and_student_like_one(tmp_path):
    for ranks in (1, 2):
        start(tmp_path / str(ranks), ranks)
    for name in CASES:
        one, two = (torch.load(tmp_path / ranks / name / "weights.pt", weights_only=True) for ranks in "12")
        assert any(key.startswith("parts.") for key in one)
        for key in one:
            if "pieces" in CASES[name] and (".running_" in key or ".num_batches" in key):  # statistics of other pieces
                continue
            torch.testing.assert_close(two[key], one[key], rtol=1e-8, atol=1e-11, msg=lambda m, k=key, n=name: f"{n}: {k}: {m}")
        losses = [json.loads((tmp_path / ranks / name / "losses.json").read_text()) for ranks in "12"]
        assert losses[0] == pytest.approx(losses[1], rel=1e-10), name


def test_an_interrupted_run_goes_on_with_the_parts_of_its_checkpoint(tmp_path):
    options = {"method": "bkdsnn", "double": False, "checkpoint_minutes": 0}
    expected = train_parts.run_training(tmp_path / "unbroken", World(), **options).state_dict()
    with pytest.raises(KeyboardInterrupt):
        train_parts.run_training(tmp_path / "broken", World(), at=6, **options)
    assert list((tmp_path / "broken" / "checkpoints").iterdir())
    found = train_parts.run_training(tmp_path / "broken", World(), **options).state_dict()
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_activation_checkpointing_changes_no_bit_of_the_parts(tmp_path):
    options = {"method": "fitnet", "double": False}
    plain = train_parts.run_training(tmp_path / "plain", World(), **options).state_dict()
    saving = train_parts.run_training(tmp_path / "saving", World(), **options, checkpoint_activations=True).state_dict()
    assert [key for key in plain if not torch.equal(plain[key], saving[key])] == []


@pytest.mark.parametrize("name", METHODS)
def test_parts_are_optimised_and_are_not_in_the_trained_network(name, tmp_path):
    spec = spec_of(name, {}, dataset="digits", backward="bptt")
    student, _ = networks_of(spec)
    parts = {id(p) for p in student.parts.parameters()}
    optimised = {id(p) for group in build_optimizer(student, spec.train).param_groups for p in group["params"]}
    assert parts <= optimised
    save_network(student, tmp_path)
    saved = load_file(tmp_path / "weights.safetensors")
    assert not any(key.startswith("parts") for key in saved)
    assert student.parts is None
    assert saved.keys() == student.state_dict().keys()


@pytest.mark.parametrize("name", METHODS)
def test_parts_follow_from_the_seed_and_leave_the_student_as_other_methods_find_it(name):
    spec = spec_of(name, {}, dataset="digits", backward="bptt")
    first, again = (networks_of(spec)[0] for _ in range(2))
    other, _ = networks_of(spec.model_copy(update={"seed": 8}))
    plain, _ = networks_of(spec_of("ce", {}, dataset="digits", backward="bptt"))
    for (key, own), same, different in zip(
        first.parts.state_dict().items(), again.parts.state_dict().values(), other.parts.state_dict().values(), strict=True
    ):
        assert torch.equal(own, same), key
        assert not torch.equal(own, different), key
    for key, value in plain.state_dict().items():
        assert torch.equal(value, first.state_dict()[key]), key


def test_measuring_shapes_changes_no_network():
    spec = spec_of("kdsnn", {}, dataset="digits", backward="bptt")
    student, teacher = networks_of(spec)
    before = {key: value.clone() for key, value in [*student.state_dict().items(), *teacher.state_dict().items()]}
    shapes = shapes_of(student.train(), teacher, torch.zeros(1, 1, 8, 8))
    assert student.training
    assert shapes.student == ((16, 8, 8), (32, 4, 4), (64, 2, 2))
    assert shapes.time_steps, shapes.num_classes == (3, 10)
    after = {**student.state_dict(), **teacher.state_dict()}
    assert all(torch.equal(value, after[key]) for key, value in before.items())


class WithoutMaps(torch.nn.Linear):
    """A teacher whose stages are no maps, as those of a transformer."""

    def forward(self, x, *, returns_stages):
        return ModelOutput(super().forward(x.mean((2, 3))), x, stages=(x.mean((2, 3)),))


def test_a_teacher_without_maps_is_for_methods_that_compare_none():
    student, _ = networks_of(spec_of("kdsnn", {}, dataset="digits", backward="bptt"))
    teacher, sample = WithoutMaps(1, 10), torch.zeros(1, 1, 8, 8)
    assert shapes_of(student, teacher, sample, compares_maps=False).teacher == ()
    with pytest.raises(ConfigError, match="teacher: its features have the shape"):
        shapes_of(student, teacher, sample)


@pytest.mark.parametrize("scaled", [True, False])
def test_gradients_of_parts_are_scaled_as_the_student_s_are(scaled):
    spec = spec_of("kdsnn", {}, dataset="digits", backward="rate").model_copy(update={"scale_grad_by_steps": scaled})
    student, _ = networks_of(spec)
    weight = next(student.parts.parameters())
    (6 * weight.sum()).backward()
    assert torch.allclose(weight.grad, torch.full_like(weight, 2.0 if scaled else 6.0))


class Module:
    """A method of a plug-in, as far as its parts go."""

    __name__ = "spikedistill.distill.kdsnn"

    def __init__(self, build):
        genuine = components.load("distill", "kdsnn")
        self.Params, self.needs, self.loss, self.build = genuine.Params, genuine.needs, genuine.loss, build


def test_a_build_that_returns_no_module_is_told(monkeypatch):
    spec = spec_of("kdsnn", {}, dataset="digits", backward="bptt")
    student, teacher = networks_of(spec)
    broken = Module(lambda params, shapes: [1])
    monkeypatch.setattr(components, "load", lambda kind, name: broken)
    with pytest.raises(ConfigError, match=r"kdsnn\.py: build returns a torch\.nn\.Module .*; found \[1\]"):
        add_parts(student, teacher, spec, torch.zeros(1, 1, 8, 8))


def test_a_part_that_the_loss_leaves_out_is_told():
    genuine = components.load("distill", "kdsnn")

    def build(params, shapes):
        parts = genuine.build(params, shapes)
        parts[0].idle = torch.nn.Linear(2, 2)
        return parts

    with pytest.raises(AssertionError, match=r"0\.idle\.weight of the parts takes no part in the loss"):
        parts_are_trained(Module(build), {})


@pytest.mark.parametrize("name", METHODS)
def test_a_teacher_without_known_maps_is_refused_before_anything_runs(name):
    refused = rf"methods\.{name}: compares feature maps, and none are known of 'torchvision/vit_b_16'"
    with pytest.raises(ConfigError, match=refused):
        spec_of(name, {}, dataset="digits", backward="bptt", teacher="torchvision/vit_b_16")
    spec_of(name, {}, dataset="digits", backward="bptt", teacher="torchvision/resnet18")


@pytest.mark.parametrize("name", METHODS)
def test_a_teacher_of_another_library_is_compared_with_at_its_last_stage(name):
    spec = spec_of(name, {}, dataset="digits", backward="bptt", teacher="torchvision/resnet18")
    student, _ = networks_of(spec)
    teacher = build_teacher("torchvision/resnet18", num_classes=10, in_channels=1).eval()
    add_parts(student, teacher, spec, torch.zeros(1, 1, 64, 64))
    shapes = shapes_of(student, teacher, torch.zeros(1, 1, 64, 64))
    assert shapes.teacher == ((512, 2, 2),)
    assert shapes.pairs == [((64, 16, 16), (512, 2, 2))]


@pytest.mark.slow
def test_an_artifact_is_that_of_a_student_without_parts_and_costs_the_same(tmp_path):
    train = {"epochs": 1, "batch_size": 64}
    experiment = {
        "dataset": {"name": "digits"},
        "teacher": {"arch": "resnet8", "train": train},
        "student": {"arch": "resnet8", "time_steps": 2, "train": train},
        "methods": {"ce": {}, **{name: {} for name in METHODS}},
    }
    plan, store = build_plan(parse_config({"experiments": {"one": experiment}})), Store(tmp_path / "store")
    made = {ref: run_stage(spec, store, RunOptions(results=tmp_path / "results")) for ref, spec in plan.stages.items()}
    rows = {row.method: row for row in plan.rows}
    keys = {name: sorted(load_file(made[row.model] / "weights.safetensors")) for name, row in rows.items()}
    evaluations = {name: json.loads((made[row.evaluation] / "evaluation.json").read_text()) for name, row in rows.items()}
    for name in METHODS:
        assert keys[name] == keys["ce"]
        counted = [[layer["name"] for layer in evaluations[each]["operations"]["layers"]] for each in (name, "ce")]
        assert counted[0] == counted[1]
