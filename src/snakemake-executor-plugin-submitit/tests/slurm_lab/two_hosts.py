"""Two hosts on this machine, each with a network, a name, and a file of hosts of its own; a wire between them.

Each maps its own name to 127.0.1.1, as Debian does by default. (What is real: routes, interfaces, names. The kernel, the file
system and the processes are shared.)
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slurm_lab.requirements import require
from slurm_lab.running import environment

RANK = """
import sys
from pathlib import Path
from snakemake_executor_plugin_submitit.job import ranks
me = ranks.Member.from_environment()
if me.rank:
    sys.exit(ranks.follow(me))
ranks.note_environment(Path(me.folder))
status = ranks.lead(me, sys.argv[1:])
(Path(me.folder) / ranks.END).touch()
sys.exit(status)
"""


@dataclass(frozen=True)
class TwoHosts:
    """The names, the addresses on the wire, and the name of the interface of each."""

    names: tuple[str, str]
    addresses: tuple[str, str] = ("10.231.7.1", "10.231.7.2")
    interface: str = "wire0"

    def start(self, index: int, folder: Path, *command: str, **extra: str) -> subprocess.Popen[str]:
        """Start one rank of a job of two ranks on a host; rank 0 begins the command."""
        member = {"FOLDER": str(folder), "RANK": index, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "NODE_RANK": index, "NUM_NODES": 2}
        variables = environment(SLURMD_NODENAME=self.names[index], SLURM_JOB_NODELIST=",".join(self.names), **extra)
        variables |= {f"SPMD_{name}": str(value) for name, value in member.items()}
        enter = ["ip", "netns", "exec", self.names[index], "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']
        return subprocess.Popen(
            [*enter, self.names[index], sys.executable, "-c", RANK, *command],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Make the hosts; at the end remove them."""
    require("network namespaces", ("ip", "unshare"), "on Debian: apt-get install iproute2 util-linux", root=True)
    hosts = TwoHosts((f"hosta{os.getpid()}", f"hostb{os.getpid()}"))
    folders = [Path("/etc/netns") / name for name in hosts.names]
    try:
        for name in hosts.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        peer = ["peer", "name", hosts.interface, "netns", hosts.names[1]]
        _ip("-n", hosts.names[0], "link", "add", hosts.interface, "type", "veth", *peer)
        for index, (name, folder) in enumerate(zip(hosts.names, folders, strict=True)):
            _ip("-n", name, "address", "add", f"{hosts.addresses[index]}/24", "dev", hosts.interface)
            _ip("-n", name, "link", "set", hosts.interface, "up")
            folder.mkdir(parents=True)
            other = f"{hosts.addresses[1 - index]} {hosts.names[1 - index]}"
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n{other}\n")
        yield hosts
    finally:
        for name, folder in zip(hosts.names, folders, strict=True):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
            (folder / "hosts").unlink(missing_ok=True)
            if folder.exists():
                folder.rmdir()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
