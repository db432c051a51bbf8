"""A training step on a GPU: no error of devices or dtypes, no waiting for the GPU, and no more launches than it needs."""

import pytest
import torch

from spikedistill.train.distributed import World
from spikedistill.train.engine import train
from tests.gpu.bounds import check_bounds
from tests.gpu.training import Case, build_run, measured, methods

pytestmark = [pytest.mark.only_fake, pytest.mark.slow]

RATE_PARAMS = {"kd": {"logits": "mean"}}
"""Parameters of methods that train by rate-based backpropagation with these only."""

METHODS = [(name, "bptt") for name in methods("bptt")] + [(name, "rate") for name in (*methods("rate"), *RATE_PARAMS)]

WAYS = {
    "accumulation": Case(engine={"accumulate": 2}),
    "activation checkpointing": Case(engine={"checkpoint_activations": True}),
    "adamw": Case(train={"optimizer": {"name": "adamw"}}),
    "averaged weights": Case(train={"ema": 0.999}),
    "clipped gradient": Case(train={"clip_grad_norm": 1.0}),
    "label smoothing": Case(train={"label_smoothing": 0.1}),
    "mixup or cutmix": Case(train={"mixup": 0.2, "cutmix": 1.0}),
    "frames": Case(kind="frames"),
    "images as spikes": Case(encoding="poisson"),
    "fused": Case(engine={"fuse": True}, train={"precision": "bf16"}),
    "fused, activation checkpointing": Case(engine={"fuse": True, "checkpoint_activations": True}),
    "rate, accumulation": Case("esd", backward="rate", engine={"accumulate": 2}),
}


def check(case, name, folder):
    """Train an epoch; check its last measured step, when caches are warm."""
    run, loader = measured(build_run(case, folder, World(device=torch.device("cuda", 0))))
    train(run)
    assert len(loader.steps) == case.steps - 2
    assert all(step.syncs == step.pageable_copies == step.host_allocations == 0 for step in loader.steps)
    check_bounds(name, loader.steps[-1])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("method", "backward"), METHODS)
def test_every_method(gpu, tmp_path, method, backward, precision):
    params = RATE_PARAMS.get(method, {}) if backward == "rate" else {}
    case = Case(method, params, backward=backward, train={"precision": precision})
    check(case, f"{method}, {backward}, {precision}", tmp_path)


@pytest.mark.parametrize("arch", ["resnet18", "preact_resnet18", "sew_resnet18", "vgg13", "preact_resnet18_dvs", "vggsnn"])
def test_every_family_of_networks(gpu, tmp_path, arch):
    kind = "frames" if arch in ("preact_resnet18_dvs", "vggsnn") else "images"
    check(Case(arch=arch, kind=kind, train={"precision": "bf16"}), arch, tmp_path)


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_train(gpu, tmp_path, name):
    check(WAYS[name], name, tmp_path)
