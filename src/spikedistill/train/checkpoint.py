"""Resumable training state on disk: written atomically, with checksums; the newest two are kept."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from spikedistill.errors import TrainingError
from spikedistill.store import atomic

log = logging.getLogger(__name__)

KEPT = 2
_NAME = re.compile(r"epoch-(\d{6,})-step-(\d{8,})-([0-9a-f]{16})\.pt")


class CheckpointFolder:
    """The checkpoints of one run. The checksum of a file is part of its name, so that one rename commits both."""

    def __init__(self, folder: Path, spec_id: str, fence: Callable[[], None] | None = None) -> None:
        """Store the checkpoints of the run `spec_id` in `folder`, which is created when needed.

        `fence` raises an error if another process has taken the run over: what lies there is then that process's.
        """
        self.folder = folder
        self._spec_id = spec_id
        self._fence = fence or (lambda: None)
        self._is_first = True

    def save(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` whole epochs and `step` steps of the next; then remove all but the newest two.

        Raises:
            TrainingError: if it cannot be written, or not be read again; the checkpoints that were there stay intact.
        """
        buffer = io.BytesIO()
        torch.save({"spec_id": self._spec_id, "epoch": epoch, "step": step, **state}, buffer)
        content = buffer.getbuffer()
        if self._is_first:
            _check_readable(buffer)
            self._is_first = False
        target = self.folder / f"epoch-{epoch:06d}-step-{step:08d}-{_checksum(content)}.pt"
        try:
            self._fence()
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write(target, lambda stream: stream.write(content), durable=True)
            self._fence()
        except OSError as err:
            raise TrainingError(
                f"{target}: the checkpoint could not be written: {err.strerror or err}. "
                "The checkpoint before it is intact: free some space, then run the stage again"
            ) from err
        self._remove_all_but(target)

    def _remove_all_but(self, newest: Path) -> None:
        """Keep `newest` and the checkpoint before it; a later one was damaged and skipped, so it is removed, too."""
        others = [p for p in self._files() if p != newest]
        earlier = [p for p in others if _moment(p) < _moment(newest)]
        left_by_a_kill = self.folder.glob(".epoch-*.tmp")
        for path in {*others, *left_by_a_kill} - set(earlier[: KEPT - 1]):
            path.unlink(missing_ok=True)

    def load_newest(self, device: torch.device) -> dict[str, Any] | None:
        """Return the newest intact state, or None; log a warning for each damaged checkpoint that is skipped.

        Raises:
            TrainingError: if it cannot be read, belongs to another run, or was not written by this version of spikedistill.
        """
        files = self._files()
        for path in files:
            try:
                content = path.read_bytes()
            except OSError as err:
                raise TrainingError(f"{path}: the checkpoint cannot be read: {err.strerror or err}; run the stage again") from err
            if _checksum(content) != _NAME.fullmatch(path.name)[3]:  # type: ignore[index]
                log.warning("%s is damaged: its checksum differs; falling back to the checkpoint before it", path)
                continue
            return self._load(path, content, device)
        if files:
            log.warning("%s: every checkpoint is damaged; training starts from the beginning", self.folder)
        return None

    def _load(self, path: Path, content: bytes, device: torch.device) -> dict[str, Any]:
        try:
            state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
            spec_id = state["spec_id"]
        except Exception as err:  # torch.load raises whatever the content provokes
            reason = str(err).strip().partition("\n")[0]
            raise TrainingError(f"{path} is intact, but is not a checkpoint of spikedistill: move it away ({reason})") from err
        if spec_id != self._spec_id:
            raise TrainingError(f"{path} belongs to run {spec_id}, not to {self._spec_id}: move it away")
        return state

    def _files(self) -> list[Path]:
        """Return all checkpoints, damaged ones too, newest first."""
        found = [p for p in self.folder.glob("epoch-*.pt") if _NAME.fullmatch(p.name)]
        return sorted(found, key=lambda p: (_moment(p), p.stat().st_mtime_ns), reverse=True)


def _moment(path: Path) -> tuple[int, int]:
    """Return epoch and step from the name of a checkpoint."""
    epoch, step, _ = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
    return int(epoch), int(step)


def _check_readable(buffer: io.BytesIO) -> None:
    """Raise a TrainingError if a state cannot be loaded; of tensors only their shapes are read."""
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="meta", weights_only=True)
    except Exception as err:  # torch.load raises whatever the content provokes
        reason = str(err).strip().partition("\n")[0]
        raise TrainingError(
            f"the state of the network or of its optimizer could not be loaded again: {reason} It has to consist of tensors, "
            "numbers, texts, lists and dictionaries"
        ) from err


def _checksum(content: bytes | memoryview) -> str:
    return sha256(content).hexdigest()[:16]
