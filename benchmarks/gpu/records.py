"""The records of parts: one JSON file each, with the GPU, the software, the command and the figures. Imports no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikedistill.errors import ConfigError
from spikedistill.store import atomic

ROOT = Path(__file__).parents[2]
FACTS = """
import json, platform, sys
import torch
from importlib.metadata import PackageNotFoundError, version
def of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
facts = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
facts |= {name: of(name) for name in ("torchvision", "triton", "spikingjelly")}
if torch.cuda.is_available():
    device = torch.cuda.get_device_properties(0)
    facts |= {"gpu": device.name, "gpus": torch.cuda.device_count(), "memory_mib": device.total_memory >> 20}
    facts |= {"capability": f"{device.major}.{device.minor}", "cudnn": torch.backends.cudnn.version()}
else:
    from spikedistill.train.distributed import why_no_gpu
    facts["why"] = why_no_gpu()
print(json.dumps(facts))
"""


def find_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the GPU and the versions of what runs on it, as a process with this environment sees them.

    Raises:
        ConfigError: if torch, or what the package needs, cannot be imported.
    """
    done = subprocess.run([sys.executable, "-c", FACTS], cwd=ROOT, env=dict(environment), capture_output=True, text=True)
    if done.returncode != 0:
        raise ConfigError(f"torch does not start: {done.stderr.strip().rpartition(chr(10))[2]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"driver": _driver(), "commit": _commit(), "host_cpus": os.cpu_count()}


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, None if there is none."""
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")


def _commit() -> str | None:
    """Return the commit of the checkout, marked if files were edited; None outside of git."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    return f"{commit}, edited" if commit and _output("git", "status", "--porcelain", "--untracked-files=no") else commit


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def read(file: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a part, if it is of this GPU, this torch and this commit; otherwise an empty one."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    keys = ("gpu", "torch", "commit", "short")
    same = all(record.get("facts", {}).get(key) == facts.get(key) for key in keys)
    return record if same else {"complete": False, "results": {}}


def write(file: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically, so that a battery that is killed leaves no truncated one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(file, json.dumps(record, indent=1) + "\n")
