"""Where torch.compile and Triton keep what they have compiled, so that a job need not compile again. Imports no torch.

Inductor's own default is a folder in /tmp, of each node, which another user may have made before. Whoever can write to such a
folder runs code as the user of the job. So the stages use a folder of the user's on the file system that nodes share, that nobody
else can write to or replace: `spikedistill/compiled/…`, see `store.private`. Both tools look entries up by what
they are compiled from, write them under temporary names and rename them; Inductor also takes file locks where it builds
libraries. What their keys leave out is in the name of the folder: versions, and the instructions of the processor, for which they
compile natively.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from spikedistill.store.private import NotPrivateError, private_folder

log = logging.getLogger(__name__)

VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""The variable that names each tool's folder, and the name of that folder in ours."""


def keep_compiled_code() -> None:
    """Set the variables of both tools, unless the user has: to the shared folder, else to one of this process."""
    unset = [name for name in VARIABLES if not os.environ.get(name)]
    if not unset:
        return
    try:
        folder = _shared_folder()
    except (OSError, RuntimeError, NotPrivateError) as err:
        folder = Path(tempfile.mkdtemp(prefix="spikedistill-compiled-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        log.warning("compiled code is not kept for later jobs: %s; see docs/gpu.md", err)
    for name in unset:
        os.environ[name] = str(folder / VARIABLES[name])


def _shared_folder() -> Path:
    """Make the folder of the user, and return it.

    Raises:
        OSError, RuntimeError: if it cannot be made, or has no file locks.
        NotPrivateError: if someone else could write to it or replace it.
    """
    folder = private_folder("compiled", _variant())
    _check_locks(folder)
    return folder


def _check_locks(folder: Path) -> None:
    """Check that file locks work there, without which ranks of several nodes would build into each other's files."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _variant() -> str:
    """Return a name for what compiled code depends on besides its source."""
    versions = "-".join(f"{name}{_version(name)}" for name in ("torch", "triton"))
    return f"{versions}-py{sys.version_info[0]}.{sys.version_info[1]}-{platform.machine()}-{_processor()}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _processor() -> str:
    """Return a digest of the instructions that the processor has."""
    lines = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line for line in lines if line.partition(":")[0].strip().lower() in ("flags", "features")), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:8]
