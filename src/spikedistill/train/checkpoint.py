"""Resumable training state on disk: atomic, checksummed, the newest two kept."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from spikedistill.errors import TrainingError
from spikedistill.store.atomic import fsync

log = logging.getLogger(__name__)

KEPT = 2
_NAME = re.compile(r"epoch-\d{6}-step-\d{8}-([0-9a-f]{16})\.pt")


class CheckpointFolder:
    """The checkpoints of one run. The checksum of a file is part of its name, so that one rename commits both."""

    def __init__(self, folder: Path, spec_id: str) -> None:
        """Use `folder`, created when needed; `spec_id` says which run it belongs to."""
        self.folder = folder
        self._spec_id = spec_id

    def save(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` whole epochs and `step` steps of the next; the one before stays until this is safe.

        Raises:
            TrainingError: if it cannot be written; what was there is whole.
        """
        buffer = io.BytesIO()
        torch.save({"spec_id": self._spec_id, "epoch": epoch, "step": step, **state}, buffer)
        content = buffer.getbuffer()
        target = self.folder / f"epoch-{epoch:06d}-step-{step:08d}-{_checksum(content)}.pt"
        temporary = self.folder / f".{target.name}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(target)
            fsync(self.folder)
        except OSError as err:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise TrainingError(
                f"{target}: the checkpoint could not be written: {err.strerror or err}. "
                "The checkpoint before it is whole: make room, then run the stage again"
            ) from err
        self._remove_all_but(target)

    def _remove_all_but(self, newest: Path) -> None:
        """Keep `newest` and those just before it; a file of a later moment is a damaged one that was passed over."""
        others = [p for p in self._files() if p != newest]
        before = [p for p in others if _moment(p) < _moment(newest)]
        left_by_a_kill = self.folder.glob(".epoch-*.tmp")
        for path in {*others, *left_by_a_kill} - set(before[: KEPT - 1]):
            path.unlink(missing_ok=True)

    def load_newest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state that is whole, or None; a damaged one is named and passed over.

        Raises:
            TrainingError: if it belongs to another run, or another version of this program wrote it.
        """
        files = self._files()
        for path in files:
            content = path.read_bytes()
            if _checksum(content) != _NAME.fullmatch(path.name)[1]:  # type: ignore[index]
                log.warning("%s is damaged (checksum); falling back to the checkpoint before it", path)
                continue
            return self._load(path, content, device)
        if files:
            log.warning("%s: no checkpoint is whole; training starts from the beginning", self.folder)
        return None

    def _load(self, path: Path, content: bytes, device: torch.device) -> dict[str, Any]:
        try:
            state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
            spec_id = state["spec_id"]
        except Exception as err:  # torch.load raises whatever the content provokes
            raise TrainingError(f"{path} is whole, but not a checkpoint of this program: move it away") from err
        if spec_id != self._spec_id:
            raise TrainingError(f"{path} is of run {spec_id}, not of {self._spec_id}: move it away")
        return state

    def _files(self) -> list[Path]:
        """Whole and damaged checkpoints, newest first."""
        found = [p for p in self.folder.glob("epoch-*.pt") if _NAME.fullmatch(p.name)]
        return sorted(found, key=lambda p: (_moment(p), p.stat().st_mtime_ns), reverse=True)


def _moment(path: Path) -> str:
    """The part of the name that says how far training was; sorts by time."""
    return path.name.rpartition("-")[0]


def _checksum(content: bytes | memoryview) -> str:
    return sha256(content).hexdigest()[:16]
