"""Another user of this machine: programs that run as `nobody`, with no rights on the folders of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NOBODY = 65534

ATTACK = """
import contextlib, os, socket, sys, time
how, address, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
end, held = time.monotonic() + seconds, []
def connect():
    return socket.create_connection((address, port), timeout=2)
print("begun", os.getuid(), flush=True)
while time.monotonic() < end:
    with contextlib.suppress(OSError):
        if how == "garbage":
            connect().sendall(b"[" * 100_000 + b"\\n")
        elif how == "endless":
            one = connect()
            while time.monotonic() < end:
                one.sendall(b"x" * 65536)
        elif how == "half_open":
            held.append(connect())
            if len(held) > 300:
                held.clear()
        elif how == "flood":
            connect().close()
        elif how == "replay":
            one = connect()
            one.recv(100)
            one.sendall(bytes.fromhex(sys.argv[5]))
            one.recv(100)
"""


# what the program needs is imported before, because this Python may be in a folder that only root can read
BECOME = """
import contextlib, encodings.idna, json, os, pathlib, socket, stat, sys, time
from snakemake_executor_plugin_submitit.private import *
os.chdir("/")
os.environ.clear()
os.setgroups([])
os.setgid({nobody})
os.setuid({nobody})
"""


LIST = """
for root, folders, files in os.walk(sys.argv[1]):
    for name in files:
        with contextlib.suppress(OSError):
            open(os.path.join(root, name)).close()
            print(os.path.join(root, name))
"""


def readable(folder: Path) -> list[str]:
    """Return the files below a folder that another user can read."""
    output, _ = as_nobody(LIST, folder).communicate(timeout=60)
    return output.splitlines()


def as_nobody(program: str, *arguments: object, before: str = "") -> subprocess.Popen[str]:
    """Start a Python program as another user; `before`: what it imports, as this user."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n" + BECOME.format(nobody=NOBODY) + program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
