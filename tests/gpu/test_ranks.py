"""One of eight ranks: DDP on a GPU, over torch's process group that talks to nobody."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from spikedistill.train.distributed import World
from spikedistill.train.engine import train
from spikedistill.train.network import preparation
from tests.gpu.bounds import check_bounds
from tests.gpu.training import Case, build_run, graphed_steps, measured

pytestmark = [pytest.mark.only_fake, pytest.mark.slow]

RANKS = 8
WARM_UP = 11
"""Steps: DDP waits at the second, to arrange its buckets, and at the first ten, to time itself."""
SIZE = {"batch_size": 16, "steps": WARM_UP + 2}
RATE_KD = {"method": "kd", "params": {"logits": "mean"}, "backward": "rate"}
WAYS = {
    "plain": Case(**SIZE),
    "bf16": Case(**SIZE, train={"precision": "bf16"}),
    "synchronised": Case(**SIZE, train={"sync_batchnorm": True}),
    "synchronised bf16": Case(**SIZE, train={"sync_batchnorm": True, "precision": "bf16"}),
    "fused synchronised": Case(**SIZE, engine={"fuse": True}, train={"sync_batchnorm": True, "precision": "bf16"}),
    "rate": Case("esd", backward="rate", **SIZE),
    "rate synchronised": Case(**RATE_KD, **SIZE, train={"sync_batchnorm": True}),
    "accumulation": Case(**SIZE, engine={"accumulate": 2}),
    "activation checkpointing": Case(**SIZE, engine={"checkpoint_activations": True}),
    "mixing": Case(**SIZE, train={"mixup": 0.2}),
}


def unreduced(state, bucket):
    """Hand DDP a bucket of gradients as it is: the fake group's work has no result, which DDP's own hook reads."""
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


class HookedDDP(DistributedDataParallel):
    """DDP with this hook."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_comm_hook(None, unreduced)


@pytest.fixture
def world(gpu, monkeypatch):
    monkeypatch.setattr(preparation, "DistributedDataParallel", HookedDDP)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    yield World(0, RANKS, gpu.device)
    dist.destroy_process_group()


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_train(world, tmp_path, name):
    run, loader = measured(build_run(WAYS[name], tmp_path, world), warm_up=WARM_UP)
    train(run)
    (step,) = loader.steps
    assert step.syncs == step.pageable_copies == step.host_allocations == 0
    check_bounds(f"8 ranks, {name}", step)


@pytest.mark.parametrize("name", ["plain", "fused synchronised", "rate synchronised", "accumulation"])
def test_a_step_is_one_launch_of_a_graph(world, tmp_path, monkeypatch, name):
    case = WAYS[name]
    steps = graphed_steps(monkeypatch)
    train(build_run(dataclasses.replace(case, engine={**case.engine, "cuda_graph": True}), tmp_path, world))
    assert steps[-2].library_calls > 10
    assert (steps[-1].graph_launches, steps[-1].library_calls, steps[-1].syncs) == (1, 0, 0)
