import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.local_slots import SlotPool
from snakemake_executor_plugin_submitit.resources import Request, parse_resources, slurm_parameters
from snakemake_executor_plugin_submitit.states import _parse


def test_the_names_of_the_slurm_plugin_reach_sbatch():
    request = parse_resources(
        {
            "runtime": 90,
            "mem_mb": 2000,
            "nodes": 2,
            "tasks_per_node": 4,
            "gpus_per_node": 4,
            "gpu_model": "a100",
            "slurm_partition": "gpu",
            "slurm_account": "lab",
            "constraint": "a&b",
            "slurm_extra": "--comment='two words' --exclusive",
            "_cores": 3,
        },
        threads=6,
    )
    parameters = slurm_parameters(request, name="train.a", comment="run")
    assert parameters["time"] == 90
    assert parameters["mem"] == "2000MB"
    assert (parameters["nodes"], parameters["ntasks_per_node"], parameters["cpus_per_task"]) == (2, 4, 6)
    assert parameters["additional_parameters"] == {
        "partition": "gpu",
        "account": "lab",
        "constraint": "a&b",
        "gpus-per-node": "a100:4",
        "comment": "two words",
        "exclusive": True,
        "requeue": True,
    }


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"nodes": "two"}, "nodes='two': expected a whole number, at least 1"),
        ({"mem_mb": 1.5}, "mem_mb=1.5: expected a whole number in MB"),
        ({"tasks": 3, "nodes": 2}, "tasks=3: cannot be shared equally by nodes=2"),
        ({"slurm_extra": "--comment='open"}, "slurm_extra"),
        ({"slurm_partition": "a\nb"}, "expected one line"),
    ],
)
def test_what_makes_no_sense_is_named(resources, message):
    with pytest.raises(WorkflowError, match=message):
        parse_resources(resources)


def test_a_pool_gives_out_what_is_free_and_takes_it_back():
    pool = SlotPool(cpus=4, gpus=2, mem_mb=1000)
    first = pool.take(Request(cpus_per_task=3, gpus_per_node=1, mem_mb=400))
    assert first is not None
    assert first.gpus == (0,)
    assert pool.take(Request(cpus_per_task=2)) is None
    assert pool.take(Request(cpus_per_task=1, mem_mb=700)) is None
    second = pool.take(Request(cpus_per_task=1, gpus_per_node=1))
    assert second is not None
    assert second.gpus == (1,)
    pool.give_back(first)
    assert pool.take(Request(cpus_per_task=3, gpus_per_node=1)) is not None


def test_a_job_with_more_cpus_than_the_machine_gets_them_all_and_more_gpus_are_refused():
    pool = SlotPool(cpus=2, gpus=1, mem_mb=1000)
    share = pool.take(Request(nodes=2, tasks_per_node=2))
    assert share is not None
    assert share.cpus == 2
    with pytest.raises(WorkflowError, match="this machine has 1: lower gpus_per_node"):
        pool.check(Request(gpus_per_node=2))
    with pytest.raises(WorkflowError, match="lower mem_mb"):
        pool.check(Request(mem_mb=2000))


def test_slurms_listing_is_read_as_it_comes():
    listing = "7|CANCELLED by 0|None|node1\n8|RUNNING|None|node[1-2]\n9|PENDING|Resources|\n7.batch|FAILED||\n"
    states = _parse(listing, {"7", "8", "9"})
    assert states["7"].name == "CANCELLED"
    assert not states["7"].is_alive
    assert states["8"].is_alive
    assert states["8"].nodes == "node[1-2]"
    assert states["9"].reason == "Resources"
