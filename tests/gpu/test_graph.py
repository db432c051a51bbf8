"""Training steps as one CUDA graph: on the fake GPU what a step launches, on a real one that it changes no result."""

import logging

import pytest
import torch

from spikedistill.train import engine
from spikedistill.train.distributed import World
from spikedistill.train.engine import train
from spikedistill.train.step import graph
from tests.gpu.training import Case, build_run, graphed_steps, methods

SMALL = {"arch": "resnet8", "teacher": "resnet8", "steps": graph.WARM_UP + 4}
CASES = {
    **{
        f"{name}-{backward}": Case(name, backward=backward, **SMALL)
        for backward in ("bptt", "rate")
        for name in methods(backward)
    },
    "bf16": Case("ckdsnn", train={"precision": "bf16"}, **SMALL),
    "fused": Case("sealkd", engine={"fuse": True}, **SMALL),
    "frames": Case("sealkd", kind="frames", **SMALL | {"arch": "resnet8_dvs", "teacher": "resnet8_dvs"}),
    "adamw and ema": Case("kd", train={"optimizer": {"name": "adamw"}, "ema": 0.9}, **SMALL),
    "mixing": Case("tet", train={"mixup": 0.2, "cutmix": 1.0}, **SMALL),
    "clipping": Case("kd", train={"clip_grad_norm": 1.0}, **SMALL),
    "accumulation": Case("ckdsnn", engine={"accumulate": 2}, **SMALL),
    "activation checkpointing": Case("kd", engine={"checkpoint_activations": True}, **SMALL),
    "learning rate by step": Case("kd", train={"schedule": {"name": "cosine", "per": "step"}}, **SMALL),
}


def graphed(case):
    return Case(**vars(case) | {"engine": {**case.engine, "cuda_graph": True}})


@pytest.fixture
def steps(gpu, monkeypatch, caplog):
    """What each step has launched, on a fake GPU. There all values are noise, so that graphs are not compared with anything."""
    caplog.set_level(logging.INFO)
    return graphed_steps(monkeypatch) if gpu.is_fake else []


def trained(case, folder, gpu):
    run = build_run(case, folder, World(device=gpu.device))
    train(run)
    return run.model


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_step_is_one_launch_of_a_graph(gpu, case, steps, tmp_path, caplog):
    model = trained(graphed(case), tmp_path / "graph", gpu)
    assert "runs as one CUDA graph" in caplog.text
    if gpu.is_fake:
        last = steps[-1]
        assert last.graph_launches == 1
        assert last.library_calls == last.syncs == last.pageable_copies == 0
        assert last.launches <= 4  # the graph, the learning rate, the share of mixed samples, noise of the loss
    else:
        expected = trained(case, tmp_path / "plain", gpu).state_dict()
        for name, value in model.state_dict().items():
            torch.testing.assert_close(
                value, expected[name], rtol=0.02, atol=0.002, msg=lambda text, name=name: f"{name}: {text}"
            )


class Waiting:
    """An objective that reads its loss, as one of a plug-in might."""

    def __init__(self, objective):
        self.objective = objective

    def prepare(self, batch):
        self.objective.prepare(batch)

    def __call__(self, outputs, batch):
        terms = self.objective(outputs, batch)
        return {name: term * (1.0 if term.item() < 1e30 else 0.0) for name, term in terms.items()}


def test_a_step_that_cannot_be_captured_runs_without_and_says_so_once(gpu, steps, tmp_path, caplog):
    run = build_run(graphed(Case("kd", **SMALL)), tmp_path, World(device=gpu.device))
    object.__setattr__(run, "objective", Waiting(run.objective))
    train(run)
    assert caplog.text.count("cannot be one CUDA graph") == 1
    assert "captur" in caplog.text
    if gpu.is_fake:
        assert steps[-1].graph_launches == 0
        assert steps[-1].library_calls > 10


def test_an_optimizer_that_is_not_known_runs_without(gpu, steps, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(engine, "can_capture", lambda optimizer: False)
    trained(graphed(Case("ce", **SMALL)), tmp_path, gpu)
    assert "optimizer sgd is not known to run in one" in caplog.text


class Stepping:
    """An objective whose loss follows the number of the step, which a graph would hold for ever."""

    def __init__(self, objective):
        self.objective = objective

    def prepare(self, batch):
        self.objective.prepare(batch)

    def __call__(self, outputs, batch):
        return {name: term * (1 + batch.step) for name, term in self.objective(outputs, batch).items()}


@pytest.mark.only_real
def test_a_loss_that_depends_on_the_number_of_the_step_is_found_out(gpu, tmp_path, caplog):
    run = build_run(graphed(Case("kd", **SMALL)), tmp_path, World(device=gpu.device))
    object.__setattr__(run, "objective", Stepping(run.objective))
    train(run)
    assert "cannot be one CUDA graph (loss is" in caplog.text
