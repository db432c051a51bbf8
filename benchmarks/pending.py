"""A main process with thousands of pending jobs, on a real Slurm cluster that this script starts on this machine.

    python benchmarks/pending.py [--jobs 10000] [--out benchmarks/results/pending.json]

The jobs begin in an hour, so none starts. It needs what `make test` needs (Debian's Slurm and MariaDB, root). The figures:

- submit_s, submit_cpu_s: from the start of Snakemake's main process until Slurm has all jobs, and the main process' own CPU time
  until then; dag_cpu_s: of that, what `snakemake --dry-run` takes for the same workflow by itself;
- waiting_cpu_percent: CPU time of the main process, as a share of one core, while it waits;
- main_mb: its peak resident memory;
- inodes_per_job: files and folders below the executor's folder, per pending job;
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import executor
from measuring.machine import processor
from slurm_lab.cluster import SlurmCluster, running_cluster
from slurm_lab.main_process import Main

SNAKEFILE = """\
rule all:
    input: expand("out/{{n}}", n=range({jobs}))
rule noop:
    output: "out/{{n}}"
    resources: mem_mb=100, runtime=10, slurm_extra="--begin=now+1hour"
    shell: "touch {{output}}"
"""
FLAGS = ["--scheduler", "greedy", "--max-jobs-per-timespan", "100000/1s", "--nocolor", "--submitit-poll-seconds", "20"]
WAITING_S = 60
LIMIT_S = 900


def start(cluster: SlurmCluster, work: Path, jobs: int) -> Main:
    """Start Snakemake's main process; its calls of Slurm's commands are noted."""
    return Main(cluster, work, *FLAGS, "--jobs", str(jobs), path=work / "bin", CALLS=str(work / "calls"))


def seconds_until(main: Main, condition: Callable[[], bool], started: float) -> float:
    """Wait; return the seconds since `started`."""
    while not condition():
        if main.process.poll() is not None or time.monotonic() - started > LIMIT_S:
            raise SystemExit(f"it ended, or did not get there:\n{main.output[-2000:]}")
        time.sleep(0.2)
    return time.monotonic() - started


def cpu_s(main: Main) -> float:
    """Return the CPU time of the main process itself."""
    return sum((executor.process_times(main.process.pid) or [0.0, 0.0])[:2])


def peak_mb(main: Main) -> float:
    """Return the peak resident memory of the main process."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{main.process.pid}/status").read_text())[0]) / 1024


def dry_run(work: Path) -> dict[str, float]:
    """What the workflow takes without an executor."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet"]
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return {"dag_cpu_s": used.ru_utime + used.ru_stime}


def pending(cluster: SlurmCluster) -> int:
    """Return the number of jobs in the queue; each job of an array counts."""
    return len(cluster.call("squeue", "--noheader", "--array", "--format=%i").stdout.split())


def measure(cluster: SlurmCluster, work: Path, jobs: int, waiting_s: float) -> dict[str, float]:
    """Submit, wait, kill, adopt, interrupt."""
    (work / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
    executor.counting_wrappers(work, cluster)
    figures = dry_run(work)
    started = time.monotonic()
    main = start(cluster, work, jobs)
    figures["submit_s"] = seconds_until(main, lambda: submitted(main.output) >= jobs, started)
    figures["submit_cpu_s"] = cpu_s(main)
    assert pending(cluster) == jobs
    time.sleep(5)
    before = cpu_s(main)
    time.sleep(waiting_s)
    figures["waiting_cpu_percent"] = 100 * (cpu_s(main) - before) / waiting_s
    figures["main_mb"] = peak_mb(main)
    figures["inodes_per_job"] = sum(1 for _ in (work / ".snakemake" / "submitit").rglob("*")) / jobs
    main.kill()
    started = time.monotonic()
    main = start(cluster, work, jobs)
    figures["adopt_s"] = seconds_until(main, lambda: main.output.count(": adopted slurm job") == jobs, started)
    figures["adopt_cpu_s"] = cpu_s(main)
    time.sleep(5)
    started = time.monotonic()
    figures["interrupt_s"] = main.interrupt()
    while pending(cluster):
        time.sleep(0.2)
    figures["empty_s"] = time.monotonic() - started
    return {name: round(value, 2) for name, value in figures.items()}


def submitted(output: str) -> int:
    """Return how many jobs the main process says it has submitted."""
    return sum(map(int, re.findall(r"^(\d+) jobs as array", output, re.MULTILINE)))


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
