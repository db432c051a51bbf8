"""A real Slurm cluster on this one machine: munge, MariaDB, slurmdbd, slurmctld, and several slurmd, each a "node".

Its processes can be killed and started again, one by one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "mariadbd", "mysql_install_db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacctmgr")
START_S = 60
GRACE_TIME_S = 6


class SlurmCluster:
    """Nodes `node1` … `nodeN` of a few CPUs each.

    Partitions: `main`, `other`; `low` and `lowcancel`, whose jobs are requeued or cancelled after a grace time when jobs of
    `high` need their nodes; `lowhard`, whose jobs are requeued without one. Without accounting there is neither slurmdbd nor
    MariaDB, and jobs that use more memory than they requested are killed.
    """

    def __init__(
        self, root: Path, *, num_nodes: int, cpus: int, port: int, accounting: bool = True, max_array_size: int = 1001
    ) -> None:
        self.root, self.num_nodes, self.cpus, self.port = root, num_nodes, cpus, port
        self.accounting, self.max_array_size = accounting, max_array_size
        self._processes: dict[str, subprocess.Popen] = {}
        self._killed: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that the commands of Slurm's users need."""
        return {"SLURM_CONF": str(self.root / "etc" / "slurm.conf")}

    def start(self) -> None:
        """Start all daemons; return when every node is idle."""
        for name in ("etc", "spool", "state", "log", "db", "tmp", "munge", "dev"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        (self.root / "munge").chmod(0o755)
        self._start_munge()
        if self.accounting:
            self._start_database()
        self._write_config()
        self._start_slurm()

    def _spawn(self, name: str, *command: str | Path, **extra: str) -> None:
        log = (self.root / "log" / f"{name}.out").open("ab")
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        environment = {**os.environ, "PATH": path, **self.environment, **extra}
        self._processes[name] = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        log.close()
        self._killed.discard(name)

    def _start_munge(self) -> None:
        key = self.root / "etc" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        munge = self.root / "munge"
        self._spawn(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={munge / 'socket'}",
            f"--pid-file={munge / 'pid'}",
            f"--log-file={self.root / 'log' / 'munged.log'}",
            f"--seed-file={munge / 'seed'}",
        )
        self._wait_until("munged", lambda: (munge / "socket").exists())

    def _start_database(self) -> None:
        data, sock = self.root / "db", self.root / "db" / "sock"
        tmpdir = f"--tmpdir={self.root / 'tmp'}"  # in a common one, a server removes the tables of another that starts beside it
        install = [
            "mysql_install_db",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            tmpdir,
            "--auth-root-authentication-method=normal",
        ]
        done = subprocess.run(install, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"mysql_install_db: {done.stdout}")
        self._spawn(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            tmpdir,
            f"--socket={sock}",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        )
        mysql = ["mysql", "--no-defaults", "-uroot", "-S", str(sock), "-e", "create database if not exists slurm_acct_db"]
        self._wait_until("mariadbd", lambda: subprocess.run(mysql, capture_output=True).returncode == 0)

    def _write_database_config(self) -> None:
        munge = self.root / "munge" / "socket"
        dbd = self.root / "etc" / "slurmdbd.conf"
        dbd.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={munge}\nDbdHost=localhost\nDbdPort={self.port + 1}\nSlurmUser=root\n"
            f"LogFile={self.root}/log/slurmdbd.log\nPidFile={self.root}/slurmdbd.pid\n"
            "StorageType=accounting_storage/mysql\nStorageUser=root\nStorageLoc=slurm_acct_db\nStorageHost=localhost\n"
        )
        dbd.chmod(0o600)

    def _accounting_config(self) -> str:
        if not self.accounting:
            return "AccountingStorageType=accounting_storage/none\nJobAcctGatherParams=OverMemoryKill\n"
        self._write_database_config()
        return (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\nAccountingStorageTRES=gres/gpu\n"
            f"AccountingStoragePort={self.port + 1}\nAccountingStoragePass={self.root / 'munge' / 'socket'}\n"
        )

    def _write_config(self) -> None:
        etc, host = self.root / "etc", socket.gethostname().partition(".")[0]
        munge = self.root / "munge" / "socket"
        nodes = f"node[1-{self.num_nodes}]"
        (etc / "gres.conf").write_text("Name=gpu Type=a100 File=/dev/null\nName=gpu Type=a100 File=/dev/zero\n")
        mail = etc / "mail"
        mail.write_text(f'#!/bin/sh\necho "$@" >> "{self.root}/log/mails"\n')
        mail.chmod(0o755)
        prolog = etc / "prolog"  # fails on the nodes that a test has marked
        prolog.write_text(f'#!/bin/sh\n[ ! -e "{etc}/broken-$SLURMD_NODENAME" ]\n')
        prolog.chmod(0o755)
        (etc / "slurm.conf").write_text(f"""\
ClusterName=lab
SlurmctldHost={host}
SlurmctldPort={self.port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=5
StateSaveLocation={self.root}/state
SlurmdSpoolDir={self.root}/spool/%n
SlurmctldPidFile={self.root}/slurmctld.pid
SlurmdPidFile={self.root}/slurmd.%n.pid
SlurmctldLogFile={self.root}/log/slurmctld.log
SlurmdLogFile={self.root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1
MaxArraySize={self.max_array_size}
MaxJobCount=20001
MinJobAge={5 if self.accounting else 300}
SlurmdTimeout=20
SlurmdParameters=config_overrides
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
GresTypes=gpu
Licenses=toolbox:4
MailProg={etc}/mail
Prolog={prolog}
{self._accounting_config()}\
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{self.port + 2}-{self.port + 1 + self.num_nodes}] \
CPUs={self.cpus} RealMemory=16000 Gres=gpu:a100:2 Feature=fast State=UNKNOWN
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=other Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={GRACE_TIME_S}
PartitionName=lowcancel Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime={GRACE_TIME_S}
PartitionName=lowhard Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=20 PreemptMode=OFF
""")

    def _start_slurm(self) -> None:
        if self.accounting:
            self.start_accounting()
            self.call("sacctmgr", "-i", "add", "cluster", "lab")
        self.start_controller()
        for number in range(1, self.num_nodes + 1):
            (self.root / "spool" / f"node{number}").mkdir(exist_ok=True)
            self.start_node(f"node{number}")
        idle = str(self.num_nodes)
        self._wait_until(
            "the nodes", lambda: self.call("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").stdout.strip() == idle
        )

    def start_accounting(self) -> None:
        """Start slurmdbd."""
        self._spawn("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(self.root / "db" / "sock"))
        self._wait_until("slurmdbd", self._accounting_answers)

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._spawn("slurmctld", "slurmctld", "-D")

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        self._spawn(name, "slurmd", "-D", "-N", name)

    @contextlib.contextmanager
    def broken_prolog(self, name: str) -> Iterator[None]:
        """Let no job start on a node: Slurm drains it, and holds the job."""
        mark = self.root / "etc" / f"broken-{name}"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()
            self.call("scontrol", "update", f"nodename={name}", "state=resume")

    def kill(self, name: str) -> None:
        """Kill one of the cluster's processes: slurmdbd, slurmctld.

        Slurm saves what it knows of jobs some seconds after a change. A controller that is killed before that, and started again,
        gives the id of a running job to another one, and drains the node because of it; so this waits.
        """
        if name == "slurmctld":
            self._save_jobs()
        self._kill(name)

    def _kill(self, name: str) -> None:
        self._killed.add(name)
        self._processes[name].kill()
        self._processes[name].wait()

    def _save_jobs(self) -> None:
        """Change a job, so that all jobs are saved, and wait for that. The start of a job alone does not always save them."""
        asked, saved = self.root / "etc" / "save", self.root / "state" / "job_state"
        asked.touch()  # with the same coarse clock of the file system as `saved`
        changes = [
            self.call("scontrol", "update", f"jobid={job}", "admincomment=save")
            for job in self.call("squeue", "-h", "-o", "%A").stdout.split()
        ]
        if any(change.returncode == 0 for change in changes):  # else all have ended
            self._wait_until(
                "the state of the jobs", lambda: saved.exists() and saved.stat().st_mtime_ns >= asked.stat().st_mtime_ns
            )

    def kill_node(self, name: str) -> None:
        """Kill a slurmd, its steps, and all that runs on the node: as when it loses its power."""
        self._killed.add(name)
        process = self._processes[name]
        on_node = self._on_node(name)
        # the daemons first, so that none reports how the others ended
        for pid in [process.pid, *_daemons_of(on_node), *_descendants(process.pid), *on_node]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def _on_node(self, name: str) -> set[int]:
        mine = str(self.root)
        return {
            pid
            for pid, variables in _environments()
            if variables.get("SLURMD_NODENAME") == name and any(mine in value for value in variables.values())
        }

    def _accounting_answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port + 1)) == 0

    def _wait_until(self, what: str, ready) -> None:
        deadline = time.monotonic() + START_S
        while not ready():
            dead = [name for name, process in self._processes.items() if process.poll() is not None and name not in self._killed]
            if dead:
                logs = [(self.root / "log" / f"{name}.out").read_text(errors="replace")[-2000:] for name in dead]
                raise RuntimeError(f"{', '.join(dead)} ended:\n" + "\n".join(logs))
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {START_S} s; see {self.root / 'log'}")
            time.sleep(0.1)

    def processes(self, job_name: str, command: str, rank: int = 0) -> list[tuple[int, str]]:
        """Return PID and node of the processes of a job's rank that have these words in their command line."""
        found = []
        for pid, variables in _environments():
            if variables.get("SLURM_JOB_NAME") != job_name or variables.get("SLURM_PROCID") != str(rank):
                continue
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command in words and variables.get("SLURM_CONF", "").startswith(str(self.root)):
                    found.append((pid, variables["SLURMD_NODENAME"]))
        return found

    def call(self, *command: str) -> subprocess.CompletedProcess:
        """Run one of Slurm's commands."""
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment})

    def jobs(self) -> list[dict[str, str]]:
        """Return every job that accounting knows."""
        fields = ["JobIDRaw", "JobName", "State", "NNodes", "NTasks", "NodeList", "Comment"]
        listing = self.call("sacct", "-a", "-X", "-n", "-P", "-S", "00:00:00", "-o", ",".join(fields)).stdout
        return [dict(zip(fields, line.split("|"), strict=True)) for line in listing.splitlines()]

    def completed_jobs(self, ids: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the completed jobs by id, once accounting, which lags behind, knows the given ones."""

        def completed() -> dict[str, dict[str, str]]:
            return {job["JobIDRaw"]: job for job in self.jobs() if job["State"] == "COMPLETED"}

        self._wait_until(f"accounting of {ids}", lambda: completed().keys() >= set(ids))
        return completed()

    def queue(self) -> list[str]:
        """Return the names of the jobs that wait or run."""
        return self.call("squeue", "-h", "-o", "%j").stdout.split()

    def queue_of(self, name: str, field: str = "%i") -> list[str]:
        """Return one field of each waiting or running job of that name."""
        return self.call("squeue", "-h", "-r", "-n", name, "-o", field).stdout.split()

    def stop(self) -> None:
        """Kill everything."""
        self.call("scancel", "--full", "-u", "root")
        nodes = [name for name in self._processes if name.startswith("node")]
        for name in nodes:
            self.kill_node(name)
        for name in self._processes.keys() - set(nodes):
            self._kill(name)


def _parents() -> dict[int, tuple[int, str]]:
    """Return the parent and the name of every process, by PID."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            parents[int(stat.parent.name)] = (int(rest.split()[1]), name)
    return parents


def _descendants(pid: int) -> set[int]:
    parents = _parents()
    found = {pid}
    while more := {child for child, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _daemons_of(pids: set[int]) -> set[int]:
    """Return the slurmstepd above each process; it is not a child of slurmd."""
    parents = _parents()
    found = set()
    for pid in pids:
        while pid in parents:
            if parents[pid][1] == "slurmstepd":
                found.add(pid)
            pid = parents[pid][0]
    return found


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            yield int(path.parent.name), dict(word.split("=", 1) for word in words if "=" in word)


def free_ports(count: int) -> int:
    """Return the first of `count` consecutive ports that nobody listens on."""
    for first in random.sample(range(21_000, 31_000, count), 100):  # two test runs may start in the same instant
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise RuntimeError("no free ports")


def _resolve_node_names(num_nodes: int) -> None:
    """Make the nodes' names resolve: MASTER_ADDR of a job over several nodes is one of them."""
    hosts = Path("/etc/hosts")
    known = hosts.read_text().split()
    missing = [f"127.0.0.1 node{i}\n" for i in range(1, num_nodes + 1) if f"node{i}" not in known]
    if missing:
        with hosts.open("a") as stream:
            stream.writelines(missing)


@contextlib.contextmanager
def running_cluster(*, num_nodes: int = 4, cpus: int = 4, **options: Any) -> Iterator[SlurmCluster]:
    """Start a cluster in a folder of its own; at the end kill it and remove the folder."""
    root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    _resolve_node_names(num_nodes)
    cluster = SlurmCluster(root, num_nodes=num_nodes, cpus=cpus, port=free_ports(num_nodes + 2), **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)
