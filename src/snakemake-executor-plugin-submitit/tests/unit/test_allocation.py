"""What Slurm says of the job around the main process."""

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from slurm_lab.running import run
from snakemake_executor_plugin_submitit.request.allocation import Allocation
from snakemake_executor_plugin_submitit.request.local_slots import SlotPool
from snakemake_executor_plugin_submitit.request.resources import parse_resources
from snakemake_executor_plugin_submitit.submission.allocation import own_allocation, parse_resources_of_job

BEFORE_23 = "JobId=7 JobState=RUNNING NumNodes=2 TRES={} Socks/Node=*"
SINCE_23 = "JobId=7 ReqTRES=cpu=1,node=1 AllocTRES={} Socks/Node=*"


@pytest.mark.parametrize("line", [BEFORE_23, SINCE_23])
@pytest.mark.parametrize(
    ("tres", "expected"),
    [
        ("cpu=8,mem=16000M,node=2,billing=8", (2, 8, 0, 16000)),
        ("cpu=8,mem=1.50G,node=1,billing=8,gres/gpu=4", (1, 8, 4, 1536)),
        ("cpu=8,node=1,billing=8,gres/gpu:a100=2,gres/gpu:v100=1", (1, 8, 3, None)),
        ("cpu=8,mem=2T,node=1,billing=8,gres/gpu=2,gres/gpu:a100=2", (1, 8, 2, 2 << 20)),
    ],
)
def test_resources_are_read_from_what_slurm_says(line, tres, expected):
    assert parse_resources_of_job(line.format(tres)) == expected


@pytest.mark.parametrize("text", ["", "slurm_load_jobs error: Invalid job id specified", "TRES=cpu=8", "TRES=cpu=a,node=1"])
def test_what_says_nothing_is_none(text):
    assert parse_resources_of_job(text) is None


def test_outside_a_slurm_job_it_says_what_to_do(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(WorkflowError, match=r"this process runs in no Slurm job .* by sbatch or salloc"):
        own_allocation()


def test_without_slurm_commands_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkflowError, match="scontrol does not answer"):
        own_allocation()


def test_detaching_is_refused_in_an_allocation(tmp_path):
    (tmp_path / "Snakefile").write_text("rule a:\n    output: 'a'\n    shell: 'touch {output}'\n")
    flags = ("--executor", "submitit", "--submitit-cluster", "allocation", "--submitit-detach", "--jobs", "1")
    done = run(tmp_path, "snakemake", *flags)
    assert done.returncode != 0 and "jobs that share its Slurm job end with the main process" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"nodes": 3}, "requests 3 nodes, and the Slurm job 7 has 2"),
        ({"cpus_per_task": 9}, "requests 9 CPUs, and the Slurm job 7 has 8"),
        ({"gpus_per_node": 3}, "requests 1 nodes x 3 GPUs, and the Slurm job 7 has 2"),
        ({"mem_mb": 9000}, "requests 1 nodes x 9000 MB, and the Slurm job 7 has 8000"),
        ({"mpi": "srun"}, "resource mpi"),
    ],
)
def test_what_does_not_fit_is_refused(resources, said):
    pool = SlotPool(allocation=Allocation("7", 2, 8, 2, 8000))
    with pytest.raises(WorkflowError, match=said):
        pool.check(parse_resources(resources))
    pool.check(parse_resources({"nodes": 2, "cpus_per_task": 4, "mem_mb": 4000}))


def test_an_allocation_without_counted_memory_takes_any():
    pool = SlotPool(allocation=Allocation("7", 1, 8, 0, None))
    pool.check(parse_resources({"mem_mb": 10_000_000}))
    assert pool.describe() == "the Slurm job 7 and share 8 CPUs, 0 GPUs"
