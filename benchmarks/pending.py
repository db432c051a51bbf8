"""A main process with thousands of pending jobs, on a real Slurm cluster that this script starts on this machine.

    python benchmarks/pending.py [--jobs 10000] [--out benchmarks/results/pending.json]

The jobs begin in an hour, so none starts. It needs what `make test` needs (Debian's Slurm and MariaDB, root). The figures:

- submit_s, submit_cpu_s: from the start of Snakemake's main process until Slurm has all jobs, and the main process' own CPU time
  until then; dag_cpu_s: of that, what `snakemake --dry-run` takes for the same workflow by itself;
- waiting_cpu_percent: CPU time of the main process, as a share of one core, while it waits;
- main_mb: its peak resident memory;
- inodes_per_job: files and folders below the executor's folder for each job that is pending;
- adopt_s, adopt_cpu_s: after SIGKILL, from the start of the same command until it has adopted all of them;
- interrupt_s: from Ctrl-C to the exit of the main process; empty_s: until Slurm's queue is empty;
- calls: commands of Slurm that the main processes started.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import executor
from measuring.machine import processor
from slurm_lab.cluster import SlurmCluster, running_cluster

SNAKEFILE = """\
rule all:
    input: expand("out/{{n}}", n=range({jobs}))
rule noop:
    output: "out/{{n}}"
    resources: mem_mb=100, runtime=10, slurm_extra="--begin=now+1hour"
    shell: "touch {{output}}"
"""
FLAGS = ["--executor", "submitit", "--scheduler", "greedy", "--max-jobs-per-timespan", "100000/1s", "--nocolor"]
WAITING_S = 60
LIMIT_S = 900


class Main:
    """Snakemake's main process."""

    def __init__(self, cluster: SlurmCluster, work: Path, jobs: int) -> None:
        """Start it."""
        self.log = work / "main.log"
        path = os.pathsep.join([str(work / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        variables = {**os.environ, **cluster.environment, "PATH": path, "CALLS": str(work / "calls")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *FLAGS, "--jobs", str(jobs)],
                cwd=work,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started = time.monotonic()

    @property
    def cpu_s(self) -> float:
        """CPU time of the process itself."""
        return sum((executor.process_times(self.process.pid) or [0.0, 0.0])[:2])

    @property
    def peak_mb(self) -> float:
        """Peak resident memory."""
        return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[0]) / 1024

    def wait_for(self, condition: Any) -> float:
        """Wait; return the seconds since the start."""
        while not condition():
            if self.process.poll() is not None or time.monotonic() - self.started > LIMIT_S:
                raise SystemExit(f"it ended, or did not get there:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.2)
        return time.monotonic() - self.started

    def adopted(self) -> int:
        """Return the number of adopted jobs."""
        return self.log.read_text().count(": adopted slurm job")


def dry_run(work: Path) -> dict[str, float]:
    """What the workflow takes without an executor."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet"]
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return {"dag_cpu_s": used.ru_utime + used.ru_stime}


def pending(cluster: SlurmCluster) -> int:
    """Return the number of jobs in the queue, each of an array counted."""
    return len(cluster.call("squeue", "--noheader", "--array", "--format=%i").stdout.split())


def measure(cluster: SlurmCluster, work: Path, jobs: int, waiting_s: float) -> dict[str, float]:
    """Submit, wait, kill, adopt, interrupt."""
    (work / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
    executor.counting_wrappers(work, cluster)
    figures = dry_run(work)
    main = Main(cluster, work, jobs)
    figures["submit_s"] = main.wait_for(lambda: sbatch_calls(main.log) >= jobs)
    figures["submit_cpu_s"] = main.cpu_s
    assert pending(cluster) == jobs
    time.sleep(5)
    before = main.cpu_s
    time.sleep(waiting_s)
    figures["waiting_cpu_percent"] = 100 * (main.cpu_s - before) / waiting_s
    figures["main_mb"] = main.peak_mb
    figures["inodes_per_job"] = sum(1 for _ in (work / ".snakemake" / "submitit").rglob("*")) / jobs
    main.process.kill()
    main.process.wait()
    main = Main(cluster, work, jobs)
    figures["adopt_s"] = main.wait_for(lambda: main.adopted() == jobs)
    figures["adopt_cpu_s"] = main.cpu_s
    time.sleep(5)
    started = time.monotonic()
    os.killpg(main.process.pid, signal.SIGINT)
    main.process.wait()
    figures["interrupt_s"] = time.monotonic() - started
    while pending(cluster):
        time.sleep(0.2)
    figures["empty_s"] = time.monotonic() - started
    return {name: round(value, 2) for name, value in figures.items()}


def sbatch_calls(log: Path) -> int:
    """Return how many jobs the log says were submitted."""
    return sum(map(int, re.findall(r"^(\d+) jobs as array", log.read_text(), re.MULTILINE)))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="pending jobs (10,000)")
    parser.add_argument("--waiting-s", type=float, default=WAITING_S, help=f"time of waiting that is measured ({WAITING_S} s)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    work = Path(tempfile.mkdtemp(prefix="pending-", dir="/tmp"))
    with running_cluster(num_nodes=1, max_array_size=arguments.jobs + 1) as cluster:
        report = {
            "machine": f"{processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
            "jobs": arguments.jobs,
            "figures": measure(cluster, work, arguments.jobs, arguments.waiting_s),
        }
    report["calls"] = executor.counted_calls(work / "calls")[0]
    shutil.rmtree(work)
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
