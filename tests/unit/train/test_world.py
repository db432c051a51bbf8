"""The process group, from the environment."""

import datetime

import pytest
import torch

from spikedistill.errors import ConfigError, TrainingError
from spikedistill.train.distributed import World

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    def use(values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return use


def enter():
    with World.from_environment(datetime.timedelta(seconds=1)) as world:
        return world


@pytest.mark.parametrize("values", [{}, {"MASTER_ADDR": "elsewhere"}])
def test_without_rank_variables_there_is_one_process(environment, values):
    environment(values)
    world = enter()
    assert (world.rank, world.world_size, world.is_main_process) == (0, 1, True)


def test_one_rank_needs_no_address(environment):
    environment({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"})
    assert enter().world_size == 1


@pytest.mark.parametrize("missing", NAMES)
def test_incomplete_environment_is_refused(environment, missing):
    environment({name: value for name, value in WHOLE.items() if name != missing})
    with pytest.raises(ConfigError, match=rf"but not {missing}: start the ranks with spmd or torchrun"):
        enter()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"RANK": "first"}, "RANK=first.*whole numbers"),
        ({"RANK": "2"}, "RANK=2.*from 0 to WORLD_SIZE - 1"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1.*from 0"),
    ],
)
def test_impossible_ranks_are_refused(environment, wrong, said):
    environment(WHOLE | wrong)
    with pytest.raises(ConfigError, match=said):
        enter()


def test_all_reduce_over_one_rank_is_the_value():
    assert World().all_reduce_sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


def test_maxima_over_one_rank_are_its_numbers():
    world = World()
    assert world.all_reduce_max([3, 0]) == world.begin_all_reduce_max([3, 0])() == [3, 0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_job_that_requested_gpus_does_not_train_on_the_cpu(environment, monkeypatch):
    environment({})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with (
        pytest.raises(TrainingError, match=r"the job requested 2 GPUs per node, and torch can use none: .*VISIBLE_DEVICES=0,1\)"),
        World.from_environment(datetime.timedelta(seconds=1), gpus=2),
    ):
        pass


def test_ranks_that_cannot_connect_are_told_the_variables_of_the_interface(environment, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("Gloo connectFullMesh failed with ... connect [127.0.1.1]:44321: Connection refused")

    environment(WHOLE)
    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with pytest.raises(TrainingError, match=r"did not meet at 127\.0\.0\.1:29500 within 1 s .*GLOO_SOCKET_IFNAME=lo"):
        enter()
