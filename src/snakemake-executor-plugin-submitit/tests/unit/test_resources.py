from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.local_slots import SlotPool
from snakemake_executor_plugin_submitit.request.resources import (
    Request,
    parse_resources,
    slurm_parameters,
    suggest_names,
    time_to_save_s,
)
from snakemake_executor_plugin_submitit.submission.local_executor import local_executor
from snakemake_executor_plugin_submitit.submission.states import _parse


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
    parameters = slurm_parameters(request, name="train.a", comment="run", folder=Path("jobs"))
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
    ("resources", "gpus", "options"),
    [
        ({"gpu": 2}, (2, None), {"gpus-per-node": "2"}),
        ({"gpus_per_node": 2, "gpu_model": "a100"}, (2, "a100"), {"gpus-per-node": "a100:2"}),
        ({"gres": "gpu:4"}, (4, None), {"gpus-per-node": "4"}),
        ({"gres": "gpu:h100:4,nvme:1"}, (4, "h100"), {"gpus-per-node": "h100:4", "gres": "nvme:1"}),
        ({"gres": "gpu"}, (1, None), {"gpus-per-node": "1"}),
        ({"gres": "gpu:a100"}, (1, "a100"), {"gpus-per-node": "a100:1"}),
        ({"gres": "gres/gpu:2,gres/nvme:1"}, (2, None), {"gpus-per-node": "2", "gres": "nvme:1"}),
        ({"gres": "nvme:1"}, (0, None), {"gres": "nvme:1"}),
    ],
)
def test_gpus_are_counted_however_they_are_written(resources, gpus, options):
    request = parse_resources(resources)
    assert (request.gpus_per_node, request.gpu_model) == gpus
    found = slurm_parameters(request, name="a", comment="", folder=Path("jobs"))["additional_parameters"]
    assert found == options | {"requeue": True, "signal": "B:USR2@90"}


def test_what_is_given_per_gpu_is_shared_by_the_tasks_of_a_node():
    request = parse_resources({"gpu": 4, "tasks_per_gpu": 1, "cpus_per_gpu": 6, "mem_mb_per_gpu": 1000, "nodes": 2})
    assert (request.nodes, request.tasks_per_node, request.cpus_per_task, request.mem_mb) == (2, 4, 6, 4000)


@pytest.mark.parametrize(
    ("resources", "options"),
    [
        ({"exclusive": True, "requeue": False}, {"exclusive": True, "no-requeue": True}),
        ({"exclusive": "user", "requeue": "true"}, {"exclusive": "user", "requeue": True}),
        ({"exclusive": "no"}, {}),
        ({"slurm_cluster": "a"}, {"clusters": "a"}),
        ({"clusters": "a", "cluster": "b"}, {"clusters": "a"}),
    ],
)
def test_switches_and_names_that_mean_the_same(resources, options, monkeypatch):
    monkeypatch.setenv("SLURM_CLUSTERS", "a")
    assert parse_resources(resources).sbatch == options


def test_a_command_that_starts_its_tasks_itself_is_a_batch_script():
    parameters = slurm_parameters(
        parse_resources({"mpi": "srun", "tasks": 4, "nodes": 2}, threads=3), name="a", comment="", folder=Path("jobs")
    )
    assert (parameters["nodes"], parameters["ntasks_per_node"], parameters["use_srun"]) == (2, 2, False)
    assert "export SRUN_CPUS_PER_TASK=3" in parameters["setup"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("srun", True), (True, True), ("yes", True), (False, False), (0, False), ("no", False), ("False", False), ("", False)],
)
def test_mpi_may_be_switched_off(value, expected):
    assert parse_resources({"mpi": value}).mpi is expected


def test_a_job_that_must_not_be_requeued_is_not_requeued_at_its_time_limit_either():
    assert parse_resources({"requeue": "false", "max_requeues": 3}).max_requeues == 0


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"gpu": 1, "gres": "gpu:2"}, "request GPUs once"),
        ({"gres": "gpu:a:1,gpu:b:1"}, "request GPUs once"),
        ({"cpus_per_gpu": 4}, "cpus_per_gpu: the job requests no GPU; set gpus_per_node too"),
        ({"gpu": 1, "cpus_per_gpu": 3, "tasks_per_node": 2}, "3 CPUs of a node cannot be shared equally by its 2 tasks"),
        ({"exclusive": "maybe"}, "exclusive='maybe': expected true or false, or one of user, mcs, topo"),
        ({"requeue": "user"}, "requeue='user': expected true or false$"),
        ({"slurm_extra": "--mem=4G"}, "--mem is not for slurm_extra; use the resource mem_mb"),
        ({"slurm_extra": "--gres=gpu:1"}, "--gres is not for slurm_extra; use the resource gres"),
        ({"slurm_extra": "--output=x"}, "--output is not for slurm_extra; the executor sets it"),
        ({"slurm_extra": "--cluster=wice"}, "--cluster is not for slurm_extra; use the resource clusters"),
        ({"slurm_extra": "--arr=0-3"}, "--arr is not for slurm_extra; jobs with equal requests become an array"),
        ({"slurm_extra": "--outp=x"}, "--outp is not for slurm_extra; the executor sets it"),
        ({"slurm_extra": "--gpu=1"}, "--gpu is not for slurm_extra; use the resource gpus_per_node"),
        ({"slurm_extra": "--job_name=x"}, "--job_name is not for slurm_extra; the executor sets it"),
        ({"slurm_extra": "--=x"}, "write options as --name=value or --name; found '--=x'"),
        ({"slurm_extra": "-C fast"}, "write options as --name=value or --name; found '-C'"),
        ({"nodes": "two"}, "nodes='two': expected a whole number, at least 1"),
        ({"mem_mb": 1.5}, "mem_mb=1.5: expected a whole number in MB"),
        ({"runtime": float("inf")}, "runtime=inf: expected a whole number in minutes"),
        ({"runtime": float("nan")}, "runtime=nan: expected a whole number in minutes"),
        ({"clusters": "far"}, "clusters='far': all jobs of a run go to one cluster; start Snakemake with SLURM_CLUSTERS=far"),
        ({"tasks": 3, "nodes": 2}, "tasks=3: cannot be shared equally by nodes=2"),
        ({"slurm_extra": "--comment='open"}, "slurm_extra"),
        ({"slurm_partition": "a\nb"}, "expected one line"),
    ],
)
def test_what_makes_no_sense_is_named(resources, message):
    with pytest.raises(WorkflowError, match=message):
        parse_resources(resources)


def test_options_without_a_resource_of_their_own_are_passed_on():
    text = (
        "--time-min=5 --mem-bind=local --gres-flags=enforce-binding --gpu-bind=none --tres-per-task=gres/gpu:1 --wait-all-nodes=1"
    )
    assert parse_resources({"slurm_extra": text}).extra == tuple(text.split())


def test_a_slip_of_the_pen_is_told_from_a_resource_of_ones_own():
    slips = suggest_names(
        ["slurm_acount", "partition", "slurm_qos", "licence", "mem_gb", "mem_mb", "tmpdir", "downloads", "_cores"]
    )
    assert slips == {
        "slurm_acount": "slurm_account",
        "partition": "slurm_partition",
        "slurm_qos": "qos",
        "licence": "licenses",
        "mem_gb": "mem_mb",
    }


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


@pytest.mark.parametrize(
    ("visible", "total"), [("2,3", 2), ("GPU-ab12, GPU-cd34", 2), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("0,-1,1", 1)]
)
def test_the_gpus_of_this_machine_are_those_that_the_user_left_visible(visible, total, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert SlotPool().total_gpus == total


@pytest.mark.parametrize(("visible", "devices"), [("2,3", "3"), ("GPU-ab12,GPU-cd34", "GPU-cd34"), (None, "1")])
def test_a_local_job_sees_its_share_of_the_visible_gpus(visible, devices, tmp_path, monkeypatch):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *_, env, **__: started.append(env) or SimpleNamespace(pid=7))
    local_executor(tmp_path, Request(gpus_per_node=1), (1,))._submit_command("true")
    local_executor(tmp_path, Request(), ())._submit_command("true")
    assert [env["CUDA_VISIBLE_DEVICES"] for env in started] == [devices, ""]


def test_more_local_gpus_than_are_visible_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(WorkflowError, match="CUDA_VISIBLE_DEVICES names 2 GPUs, and the job is to use number 3"):
        local_executor(tmp_path, Request(gpus_per_node=3), ())


def test_slurms_listing_is_read_as_it_comes():
    listing = "7|CANCELLED by 0|None|node1\n8|RUNNING|None|node[1-2]\n9|PENDING|Resources|\n7.batch|FAILED||\n"
    states = _parse(listing, {"7", "8", "9"})
    assert states["7"].name == "CANCELLED"
    assert not states["7"].is_alive
    assert states["8"].is_alive
    assert states["8"].nodes == "node[1-2]"
    assert states["9"].reason == "Resources"


@pytest.mark.parametrize(("runtime_min", "seconds"), [(1, 5), (2, 20), (60, 60)])
def test_what_is_left_after_saving_suffices_to_requeue(runtime_min, seconds):
    assert time_to_save_s(runtime_min) == seconds
