"""`--submitit-cluster allocation`: Snakemake runs in a Slurm job, and its jobs share what that job has, as steps."""

import contextlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from slurm_lab.main_process import lines, wait_for, write_snakefile
from slurm_lab.running import environment

FLAGS = "--executor submitit --submitit-cluster allocation --jobs 20 --latency-wait 5 --nocolor"
RULES = """
    rule all:
        input: expand("{{n}}.txt", n=range({jobs}))
    rule job:
        output: "{{n}}.txt"
        resources: mem_mb=100, {extra}
        shell:
            "echo $SLURM_JOB_ID $SLURM_STEP_ID $SLURMD_NODENAME $(date +%s.%N) >> {{wildcards.n}}.start; {command};"
            " date +%s.%N >> {{wildcards.n}}.end; touch {{output}}"
"""


def write_rules(folder, jobs=8, extra="", command="sleep 2"):
    write_snakefile(folder, RULES.format(jobs=jobs, extra=extra, command=command))


class Outer:
    """A Slurm job that runs Snakemake."""

    def __init__(self, cluster, folder, *flags, nodes=2, **options):
        self.cluster, self.folder = cluster, folder
        script = folder / "outer.sh"
        script.write_text(f"#!/bin/bash\nexec snakemake {FLAGS} {shlex.join(flags)}\n")
        settings = {"ntasks-per-node": 2, "mem": 2000, "time": 10, "output": folder / "outer.log", **options}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        done = subprocess.run(
            ["sbatch", "--parsable", f"--nodes={nodes}", "--no-requeue", *words, str(script)],
            cwd=folder,
            env=environment(**cluster.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        self.job_id = done.stdout.strip()

    @property
    def output(self):
        log = self.folder / "outer.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def state(self):
        text = self.cluster.call("scontrol", "-o", "show", "job", self.job_id).stdout
        found = re.search(r"JobState=(\S+)", text)
        return found[1] if found else "GONE"

    def ends(self, timeout_s=150):
        wait_for(lambda: self.state() not in ("PENDING", "RUNNING", "COMPLETING"), timeout_s, lambda: self.output)
        return self.output


def starts(folder):
    return {path.stem: lines(path)[-1].split() for path in folder.glob("*.start")}


def most_at_once(folder):
    """The largest number of jobs that ran at the same time."""
    begun = [(float(path.read_text().split()[3]), 1) for path in folder.glob("*.start")]
    ended = [(float(path.read_text()), -1) for path in folder.glob("*.end")]
    now, most = 0, 0
    for _, change in sorted(begun + ended):
        now += change
        most = max(most, now)
    return most


def test_jobs_are_steps_that_use_all_of_the_allocation_and_no_more(slurm_cluster, tmp_path):
    write_rules(tmp_path, jobs=10)
    outer = Outer(slurm_cluster, tmp_path)
    output = outer.ends()
    found = starts(tmp_path)
    assert len(found) == 10, output
    assert f"the Slurm job {outer.job_id} and share 4 CPUs" in output
    assert {job for job, *_ in found.values()} == {outer.job_id}
    assert len({step for _, step, *_ in found.values()}) == 10
    assert len({node for _, _, node, _ in found.values()}) == 2
    assert 3 <= most_at_once(tmp_path) <= 4


def test_ranks_run_on_the_nodes_of_the_allocation(slurm_cluster, tmp_path):
    (tmp_path / "rank.py").write_text(
        "import json, os, pathlib\n"
        "names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'SLURMD_NODENAME')\n"
        "pathlib.Path('rank' + os.environ['RANK']).write_text(json.dumps({n: os.environ[n] for n in names}))\n"
    )
    write_rules(tmp_path, jobs=1, extra="nodes=2, tasks_per_node=2", command="spmd python rank.py")
    output = Outer(slurm_cluster, tmp_path).ends()
    assert (tmp_path / "0.txt").exists(), output
    ranks = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(4)]
    assert [each["RANK"] for each in ranks] == ["0", "1", "2", "3"]
    assert [each["LOCAL_RANK"] for each in ranks] == ["0", "1", "0", "1"]
    assert len({each["SLURMD_NODENAME"] for each in ranks}) == 2
    assert len({(each["MASTER_ADDR"], each["MASTER_PORT"]) for each in ranks}) == 1


def test_a_job_that_fails_is_told_with_its_log_and_the_others_go_on(slurm_cluster, tmp_path):
    write_rules(tmp_path, jobs=4, command="if [ {wildcards.n} = 2 ]; then echo it says why; exit 7; fi")
    outer = Outer(slurm_cluster, tmp_path, "--keep-going")
    output = outer.ends()
    assert outer.state() == "FAILED"
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["0.txt", "1.txt", "3.txt"]
    assert re.search(rf"job\.2: allocation job {outer.job_id}-\w+ failed", output), output
    assert "it says why" in output


def test_a_job_that_does_not_fit_is_refused_by_name(slurm_cluster, tmp_path):
    for extra, said in {
        "nodes=3": "requests 3 nodes, and the Slurm job",
        "cpus_per_task=5": "requests 5 CPUs",
        "gpus_per_node=1": "requests 1 nodes x 1 GPUs",
        "mpi='mpirun'": "resource mpi",
    }.items():
        folder = tmp_path / extra.partition("=")[0]
        folder.mkdir()
        write_rules(folder, jobs=1, extra=extra)
        output = Outer(slurm_cluster, folder).ends()
        assert said in output and "Traceback" not in output


def test_gpus_and_memory_are_shared_too(slurm_cluster, tmp_path):
    write_rules(tmp_path, jobs=4, extra="gpus_per_node=1", command="echo $CUDA_VISIBLE_DEVICES > {wildcards.n}.gpus; sleep 2")
    output = Outer(slurm_cluster, tmp_path, gpus_per_node=2).ends()
    assert len(list(tmp_path.glob("*.txt"))) == 4, output
    assert {path.read_text().strip() for path in tmp_path.glob("*.gpus")} <= {"0", "1"}
    assert most_at_once(tmp_path) > 1


def test_jobs_in_pools_run_in_workers_that_are_steps(slurm_cluster, tmp_path):
    write_rules(tmp_path, jobs=12, extra="pool=2", command="true")
    outer = Outer(slurm_cluster, tmp_path)
    output = outer.ends()
    assert len(list(tmp_path.glob("*.txt"))) == 12, output
    steps = {(job, step) for job, step, *_ in starts(tmp_path).values()}
    assert {job for job, _ in steps} == {outer.job_id} and 1 <= len(steps) <= 2


def test_a_job_that_reaches_its_time_limit_says_so(slurm_cluster, tmp_path):
    write_rules(tmp_path, jobs=1, extra="runtime=1", command="sleep 600")
    output = Outer(slurm_cluster, tmp_path).ends(200)
    assert "DUE TO TIME LIMIT" in output, output


@pytest.mark.parametrize("end", ["cancelled", "interrupted", "killed"])
def test_no_job_outlives_the_main_process(slurm_cluster, tmp_path, end):
    write_rules(tmp_path, jobs=3, command="exec sleep 987654")
    outer = Outer(slurm_cluster, tmp_path)
    wait_for(lambda: len(starts(tmp_path)) == 3, 60, lambda: outer.output)
    assert sleeping(tmp_path) == 3
    if end == "cancelled":
        slurm_cluster.call("scancel", outer.job_id)
    else:
        signal = "INT" if end == "interrupted" else "KILL"
        found = subprocess.run(["pgrep", "-f", f"snakemake {FLAGS}"], capture_output=True, text=True).stdout.split()
        (main,) = [pid for pid in found if Path("/proc", pid, "cwd").readlink() == tmp_path]  # other tests run beside this one
        subprocess.run(["kill", f"-{signal}", main], check=True)
    wait_for(lambda: sleeping(tmp_path) == 0, 60, lambda: outer.output)
    outer.ends()


def sleeping(folder):
    """The number of commands of jobs that still run."""
    found = subprocess.run(["pgrep", "-f", "sleep 987654"], capture_output=True, text=True).stdout.split()
    count = 0
    for pid in found:
        with contextlib.suppress(OSError):
            process = Path("/proc", pid)
            count += (process / "cwd").readlink() == folder and (process / "exe").readlink().name == "sleep"
    return count
