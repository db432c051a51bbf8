"""N no-op jobs through executor plugins, side by side, on a real Slurm cluster that this script starts on this one machine.

It needs what `make test` needs (Debian's Slurm and MariaDB, root). The plugin that ours is compared with lives in a virtual
environment of its own, because every Snakemake process imports every executor plugin that is installed; without that environment
the comparison is left out:

    python3 -m venv .venv-baseline
    .venv-baseline/bin/pip install snakemake 'snakemake-executor-plugin-slurm==2.8.*' -c envs/constraints.txt

    python benchmarks/executor.py --jobs 200 --out benchmarks/results/executor-200.json
    python benchmarks/executor.py --jobs 1000 --only pools submitit slurm bare --out benchmarks/results/executor-1000.json
    python benchmarks/executor.py --jobs 10 --in-flight 1 --out benchmarks/results/executor-overhead.json
    python benchmarks/executor.py --jobs 4 --nodes 1                                      # a short try

`pools` is this plugin with the jobs in a pool of at most 4 Slurm jobs. `bare` is the same commands as one plain Slurm array
without Snakemake: the lower bound. What each figure is:

- wall_s: start to exit of Snakemake's main process;
- exit_lag_s: from the appearance of the last output to that exit;
- job_s: mean time that Slurm gave to a job, from slurmctld's log;
- cpu_s: all processes under this script, Slurm's daemons and the jobs included; main_cpu_s: the main process alone,
  children_cpu_s: what it started and waited for (sbatch, squeue, ...);
- main_mb: peak resident memory of the main process;
- rpcs: remote procedure calls that slurmctld served (`sdiag`), without the nodes' registrations and sdiag's own;
- calls: commands of Slurm that the main process started; job_calls: those that jobs started;
- failed: the end of the log where Snakemake failed, or was killed after 40 minutes.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src" / "snakemake-executor-plugin-submitit" / "tests")]

from slurm_lab.cluster import SlurmCluster, running_cluster  # noqa: E402

COUNTED = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "sacctmgr", "srun")
NOT_THE_CONTENDERS = ("MESSAGE_NODE_REGISTRATION_STATUS", "REQUEST_STATS_INFO", "ACCOUNTING_UPDATE_MSG", "REQUEST_PING")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
SNAKEFILE = """\
rule all:
    input: expand("out/{{n}}", n=range({jobs}))
rule noop:
    output: "out/{{n}}"
    resources: mem_mb=100, runtime=10
    shell: "touch {{output}}"
"""
COMMON = ["--scheduler", "greedy", "--max-jobs-per-timespan", "1000/1s", "--latency-wait", "5", "--nocolor"]
# its best settings: no probing of accounts, and polls of 2 s instead of 40 s and more
SLURM_FLAGS = [
    *("--executor", "slurm", "--slurm-no-account", "--default-resources", "slurm_partition=main"),
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
]
FLAGS = {
    "submitit": ["--executor", "submitit"],
    "pools": ["--executor", "submitit", "--set-resources", "noop:pool=4"],
    "slurm": SLURM_FLAGS,
    "slurm-arrays": [*SLURM_FLAGS, "--slurm-array-jobs", "all"],
}
OURS, BARE = ("submitit", "pools"), "bare"
LIMIT_S = 2400


@dataclass
class Row:
    """The figures of one contender."""

    contender: str
    jobs: int
    wall_s: float
    exit_lag_s: float | None = None
    job_s: float | None = None
    cpu_s: float | None = None
    main_cpu_s: float | None = None
    children_cpu_s: float | None = None
    main_mb: float | None = None
    rpcs: int | None = None
    calls: dict[str, int] = field(default_factory=dict)
    job_calls: dict[str, int] = field(default_factory=dict)
    rpcs_by_type: dict[str, int] = field(default_factory=dict)
    flags: str = ""
    failed: str = ""


def main() -> None:
    arguments = parse_arguments()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # job processes that lose their parent still end under this one
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    pythons = pythons_of(arguments.baseline_python)
    contenders = [name for name in FLAGS if name in pythons and name in arguments.only]
    with running_cluster(num_nodes=arguments.nodes, cpus=arguments.cpus) as cluster:
        for name in contenders:
            run_snakemake(cluster, name, pythons[name], jobs=2, in_flight=2)  # byte code, page cache
        rows = [run_bare(cluster, arguments.jobs, arguments.in_flight)] if BARE in arguments.only else []
        for name in contenders:
            rows.append(run_snakemake(cluster, name, pythons[name], jobs=arguments.jobs, in_flight=arguments.in_flight))
            print(json.dumps(asdict(rows[-1])), file=sys.stderr)
        write(rows, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="no-op jobs of the workflow (200)")
    parser.add_argument("--in-flight", type=int, help="how many of them may be queued or running at once (all)")
    parser.add_argument("--nodes", type=int, default=4, help="nodes of the cluster (4)")
    parser.add_argument("--cpus", type=int, default=4, help="CPUs that each node claims to have (4)")
    parser.add_argument("--only", nargs="+", choices=[*FLAGS, BARE], help="these contenders alone")
    parser.add_argument("--baseline-python", type=Path, default=Path(".venv-baseline/bin/python"), help="see above")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    arguments.in_flight = arguments.in_flight or arguments.jobs
    if set(arguments.only or ()) - {*OURS, BARE} and not arguments.baseline_python.exists():
        parser.error(f"{arguments.baseline_python} does not exist; create it as --help says")
    arguments.only = arguments.only or [*FLAGS, BARE]
    return arguments


def pythons_of(baseline: Path) -> dict[str, Path]:
    """Return the interpreter of each contender; without an environment of the other plugin only ours is left."""
    if baseline.exists():
        return {name: Path(sys.executable) if name in OURS else baseline for name in FLAGS}
    print(f"{baseline} does not exist: the slurm plugin is left out; --help says how to create it", file=sys.stderr)
    return dict.fromkeys(OURS, Path(sys.executable))


def run_snakemake(cluster: SlurmCluster, contender: str, python: Path, *, jobs: int, in_flight: int) -> Row:
    work = Path(tempfile.mkdtemp(prefix=f"{contender}-", dir="/tmp"))
    (work / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
    flags = [*FLAGS[contender], "--jobs", str(in_flight), *COMMON]
    environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1", "CALLS": str(work / "calls")}
    environment["PATH"] = os.pathsep.join(
        [str(counting_wrappers(work, cluster)), str(python.absolute().parent), os.environ["PATH"]]
    )
    if contender not in OURS:
        environment.pop("PYTHONPATH", None)
    cluster.call("sdiag", "--reset")
    cpu_before, started_at = cpu_seconds(), time.time()
    with (work / "main.log").open("wb") as log:
        main = subprocess.Popen(
            [python.absolute(), "-m", "snakemake", *flags],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        used = watch(main)
    ended_at = time.time()
    row = Row(contender, jobs, ended_at - started_at, flags=shlex.join(flags))
    for name, value in used.items():
        setattr(row, name, value)
    if main.returncode:
        text = (work / "main.log").read_text()
        row.failed = f"{text.count('Error in rule')} errors, the last: …{text[-800:]}"
        cluster.call("scancel", "--user", "root")
        if contender in OURS:
            raise SystemExit(f"{contender} failed:\n{row.failed}")
    else:
        row.exit_lag_s = ended_at - max((work / "out" / str(n)).stat().st_mtime for n in range(jobs))
    row.rpcs_by_type = remote_calls(cluster)
    row.rpcs = sum(row.rpcs_by_type.values())
    wait_for_empty_queue(cluster)
    row.cpu_s = cpu_seconds() - cpu_before
    row.calls, row.job_calls = counted_calls(work / "calls")
    row.job_s = mean_job_seconds(cluster, started_at)
    shutil.rmtree(work)
    return row


def run_bare(cluster: SlurmCluster, jobs: int, in_flight: int) -> Row:
    """The commands alone, as one array: what Slurm itself takes on this machine."""
    work = Path(tempfile.mkdtemp(prefix="bare-", dir="/tmp"))
    cluster.call("sdiag", "--reset")
    cpu_before, started_at = cpu_seconds(), time.time()
    step = f"srun touch {work}/$SLURM_ARRAY_TASK_ID"
    array = f"--array=0-{jobs - 1}%{in_flight}"
    done = cluster.call("sbatch", array, "--mem=100", "--time=10", f"--output={work}/%a.log", "--wrap", step)
    if done.returncode:
        raise SystemExit(f"bare: {done.stderr}")
    while sum(1 for path in work.iterdir() if path.suffix == "") < jobs:
        time.sleep(0.1)
    row = Row(BARE, jobs, time.time() - started_at)
    row.rpcs_by_type = remote_calls(cluster)
    row.rpcs = sum(row.rpcs_by_type.values())
    wait_for_empty_queue(cluster)
    row.cpu_s = cpu_seconds() - cpu_before
    row.job_s = mean_job_seconds(cluster, started_at)
    shutil.rmtree(work)
    return row


def counting_wrappers(work: Path, cluster: SlurmCluster) -> Path:
    """A folder for PATH: each of Slurm's commands notes its name and whether a job called it, and goes on.

    It names the cluster's configuration too: the other plugin's jobs lose every SLURM_ variable, SLURM_CONF among them.
    """
    conf = shlex.quote(cluster.environment["SLURM_CONF"])
    folder = work / "bin"
    folder.mkdir()
    for name in COUNTED:
        real = shutil.which(name)
        wrapper = folder / name
        wrapper.write_text(f'#!/bin/sh\necho "{name} ${{SLURM_JOB_ID:+job}}" >> "$CALLS"\nSLURM_CONF={conf} exec {real} "$@"\n')
        wrapper.chmod(0o755)
    return folder


def counted_calls(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    lines = path.read_text().splitlines() if path.exists() else []
    by_main = Counter(line.strip() for line in lines if not line.endswith(" job"))
    by_jobs = Counter(line.split()[0] for line in lines if line.endswith(" job"))
    return dict(by_main), dict(by_jobs)


def watch(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a process; returns its CPU seconds, those of its children, and its peak memory."""
    stat, peak_kb = [0.0] * 4, 0
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        try:
            stat = process_times(process.pid) or stat
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_kb = max(peak_kb, int(re.findall(r"VmHWM:\s+(\d+)", status)[0]))
        except (OSError, IndexError):
            pass
        reap_orphans(process.pid)
        time.sleep(0.05)
    return {"main_cpu_s": stat[0] + stat[1], "children_cpu_s": stat[2] + stat[3], "main_mb": peak_kb / 1024}


def process_times(pid: int) -> list[float] | None:
    """User and system seconds of a process, and of the children that it waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else [int(ticks) / TICKS_PER_S for ticks in fields[11:15]]


def descendants() -> dict[int, list[int]]:
    """Children by parent, of every process below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    return children


def reap_orphans(keep: int) -> None:
    """Reap the orphans that this process has adopted, so that their CPU time counts."""
    for pid in descendants().get(os.getpid(), []):
        if pid == keep:
            continue
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                os.waitpid(pid, os.WNOHANG)
        except (OSError, ChildProcessError):
            continue


def cpu_seconds() -> float:
    """CPU seconds of everything that ever ran below this process."""
    reap_orphans(keep=-1)
    children = descendants()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    todo = list(children.get(os.getpid(), []))
    while todo:
        pid = todo.pop()
        total += sum(process_times(pid) or [])
        todo += children.get(pid, [])
    return total


def remote_calls(cluster: SlurmCluster) -> dict[str, int]:
    """What slurmctld served since the last reset, by type."""
    section = cluster.call("sdiag").stdout.partition("by message type")[2].partition("by user")[0]
    counts = dict(re.findall(r"^\s*(\w+)\s*\(\s*\d+\)\s*count:(\d+)", section, re.MULTILINE))
    return {name: int(count) for name, count in counts.items() if name not in NOT_THE_CONTENDERS}


def wait_for_empty_queue(cluster: SlurmCluster) -> None:
    while cluster.queue():
        reap_orphans(keep=-1)
        time.sleep(0.2)


def mean_job_seconds(cluster: SlurmCluster, since: float) -> float | None:
    """From slurmctld's log, which has milliseconds: allocation to completion of each job."""
    begun: dict[str, float] = {}
    spans = []
    line = re.compile(r"^\[(\S+)\] .*?(Allocate|Started|_job_complete:) JobId=(\S+)(.*)")
    for text in (cluster.root / "log" / "slurmctld.log").read_text(errors="replace").splitlines():
        found = line.match(text)
        if not found:
            continue
        at, what, job, rest = datetime.fromisoformat(found[1]).timestamp(), found[2], found[3], found[4]
        if what != "_job_complete:":
            begun[job] = at
        elif rest.strip() == "done" and begun.get(job, 0) >= since:
            spans.append(at - begun.pop(job))
    return sum(spans) / len(spans) if spans else None


def write(rows: list[Row], arguments: argparse.Namespace) -> None:
    command = shlex.join(["python", "benchmarks/executor.py", *sys.argv[1:]])
    names = ["wall_s", "exit_lag_s", "job_s", "cpu_s", "main_cpu_s", "children_cpu_s", "main_mb", "rpcs"]
    called = sorted({name for row in rows for name in row.calls})
    table = [
        [
            name,
            *(
                None if (value := getattr(row, name)) is None else f"{value:.1f}" if isinstance(value, float) else value
                for row in rows
            ),
        ]
        for name in names
    ] + [[f"{name} calls", *(row.calls.get(name, 0) for row in rows)] for name in called]
    headers = [f"{arguments.jobs} jobs", *(row.contender for row in rows)]
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[1]:.1f} (5 min), Python {platform.python_version()}"
    text = tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)
    place = f"{arguments.nodes} nodes x {arguments.cpus} CPUs on one machine of {machine}; {slurm_version()}"
    text = f"`{command}`\n\n{place}\n\n{text}\n"
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"command": command, "machine": machine, "slurm": slurm_version(), "rows": [asdict(row) for row in rows]}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")


def slurm_version() -> str:
    return subprocess.run(["slurmctld", "-V"], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
