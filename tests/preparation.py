"""Prepare a dataset in a program of its own, slowly and with frequent commits, so that a test can kill it in its middle.

    python -m tests.preparation '{"dataset": …, "params": …, "raw": …, "out": …, "work": …}'

Further keys: "workers", "slow_s" for each file that is read, "rank" and "world_size".
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from spikedistill.components import load
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.prepare import workers
from spikedistill.data.prepare.blocks import filling, ranks
from spikedistill.data.prepare.blocks.session import Session, preparing
from spikedistill.data.prepare.images.helpers import serve
from spikedistill.errors import SpikedistillError
from spikedistill.store.lease import LeaseLostError
from tests import image_files
from tests.files import contents, write_files

ROOT = Path(__file__).parents[1]


STORAGES: dict[str, dict[str, Any]] = {
    "array": {"storage": "array", "side": 24},
    "packed": {"storage": "packed"},
    "shrunk": {"storage": "packed", "shrink": {"side": 30, "quality": 80}},
    "files": {"storage": "files"},
}


def write_imagenet(folder: Path, per_class: int = 60) -> Path:
    """Write three classes of JPEG, in folders as torchvision has them: so many of each, and 12 to test on."""
    images, classes = image_files.imagenet_val()
    write_files(folder / "train", image_files.imagenet_train(per_class=per_class))
    write_files(folder / "val", {f"{c}/{name}": content for (name, content), c in zip(images.items(), classes, strict=True)})
    return folder


def prepared(name: str, raw: Path, folder: Path, num_workers: int = 2, **params: Any) -> dict[str, bytes]:
    """Prepare a dataset in this process, into folder/out; return what was written."""
    for each in ("out", "work"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    dataset = load("data.datasets", name)
    where = {"raw": raw, "out": folder / "out", "work": folder / "work"}
    with mock.patch.object(filling, "COMMIT_S", 0.0):  # as if it took long
        dataset.prepare(dataset.Params(strict=False, **params), **where, num_workers=num_workers)
    return contents(folder / "out")


def start(dataset: str, raw: Path, folder: Path, *, params: dict[str, Any], **further: Any) -> subprocess.Popen[str]:
    """Start to prepare `raw` into folder/out, with folder/work for what survives; "rank" other than 0 helps."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    (folder / "work").mkdir(exist_ok=True)
    asked = {"dataset": dataset, "params": params, "raw": str(raw), "folder": str(folder), **further}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.preparation", json.dumps(asked)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(running: subprocess.Popen[str]) -> str:
    """Wait until it has ended well; return what it said."""
    said = running.communicate(timeout=120)[0]
    assert running.returncode == 0, said
    return said


def kill(running: subprocess.Popen[str]) -> None:
    """Kill it and all its processes."""
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def journaled(place: Path) -> int:
    """Return the number of blocks that a journal, or all below a folder, tell."""
    paths = [place] if place.is_file() else place.rglob("journal-*.jsonl")
    return sum(len(re.findall(rb"^[0-9a-f]{8} \[\d", path.read_bytes(), re.M)) for path in paths)


def _slow_down(seconds: float) -> None:
    for kind, name in ((ImageFiles, "content"), (Member, "read")):
        read = getattr(kind, name)

        def slowly(*arguments: Any, read: Any = read) -> Any:
            time.sleep(seconds)
            return read(*arguments)

        setattr(kind, name, slowly)


def _fence_of(order: Path) -> Any:
    """Stands for the lease: it is held until a file says that rank 0 has ended."""

    def check() -> None:
        if (order.parent / "ended").exists():
            raise LeaseLostError("rank 0 has ended")

    return check


def main(asked: dict[str, Any]) -> None:
    """Prepare, or help."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    filling.COMMIT_S, filling.FENCE_S, workers._WATCH_S, ranks.POLL_S = 0.02, 0.1, 0.02, 0.02
    _slow_down(asked.get("slow_s", 0.0))
    raw, folder = Path(asked["raw"]), Path(asked["folder"])
    work, rank, world_size = folder / "work", asked.get("rank", 0), asked.get("world_size", 1)
    dataset = load("data.datasets", asked["dataset"])
    token = asked.get("token", "run")
    with preparing(Session(rank, world_size, token, _fence_of(work / "order.json"), work / "progress.json")):
        if rank:
            serve(work, asked.get("workers", 1))
            return
        try:
            dataset.prepare(
                dataset.Params(**asked["params"]),
                raw=raw,
                out=folder / "out",
                work=work,
                num_workers=asked.get("workers", 1),
            )
        except SpikedistillError as err:
            sys.exit(str(err))
        finally:
            if world_size > 1:
                (work / "ended").touch()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
