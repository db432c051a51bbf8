"""The scalars of a run: written to TensorBoard, to metrics.jsonl, and to the terminal or the log. Imports torch on use only."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from spikedistill.store.atomic import write_text

log = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
STEP = "step.json"
"""A file beside the metrics while a network is trained: its position within the epoch, for `spikedistill status`."""


class Tracker:
    """Writes one record per epoch, on the main process only. Tags are `group/name(unit)`."""

    def __init__(
        self,
        metrics: Path,
        tensorboard: Path,
        *,
        num_epochs: int,
        steps_per_epoch: int,
        active: bool = True,
        interval_s: float = 30.0,
    ) -> None:
        """Describe the run; `open` opens the files.

        Args:
            metrics: the JSON lines file.
            tensorboard: folder of the event files.
            num_epochs: epochs of the whole run.
            steps_per_epoch: steps of an epoch.
            active: False on all ranks but the main process: they write nothing.
            interval_s: minimum time between two log lines about steps within an epoch; a terminal is refreshed every second.
        """
        self._metrics_file, self._tensorboard = metrics, tensorboard
        self._num_epochs, self._steps_per_epoch = num_epochs, steps_per_epoch
        self._active = active
        self._interval_s = interval_s

    def open(self, start_epoch: int, start_step: int = 0) -> Tracker:
        """Open the files for a run that starts, or resumes, at a step of an epoch; close them at the end of a `with` block.

        Args:
            start_epoch: first epoch to be recorded, from 0; records of this epoch and later ones, left by an interrupted run,
                are dropped.
            start_step: steps of that epoch that are done already.
        """
        if not self._active:
            return self
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self._metrics_file.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in whole_lines(self._metrics_file) if json.loads(line)["epoch"] < start_epoch]
        write_text(self._metrics_file, "".join(line + "\n" for line in kept))
        self._metrics = self._metrics_file.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(self._tensorboard), purge_step=start_epoch)
        total, done = self._num_epochs * self._steps_per_epoch, start_epoch * self._steps_per_epoch + start_step
        self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty())
        if not self._bar.disable:
            self._interval_s = min(1.0, self._interval_s)
        self._shown_at = time.monotonic()
        return self

    def is_due(self) -> bool:
        """Return whether it is time to show a step; asked first, so that not every step waits for the device."""
        return self._active and time.monotonic() - self._shown_at >= self._interval_s

    def show_step(self, epoch: int, step: int, *, loss: float, accuracy: float, samples_per_s: float) -> None:
        """Show the progress within an epoch on the terminal or in the log, and to `spikedistill status`; nothing is recorded.

        Args:
            epoch: number of the epoch, from 0.
            step: number of steps done in it.
            loss: of a recent step.
            accuracy: of the epoch so far, in percent.
            samples_per_s: over all ranks.
        """
        self._shown_at = time.monotonic()
        where = {"epoch": epoch, "step": step, "steps": self._steps_per_epoch}
        with contextlib.suppress(OSError):  # only `spikedistill status` reads it
            write_text(
                self._metrics_file.with_name(STEP),
                json.dumps({**where, "loss": loss, "accuracy(%)": accuracy, "throughput(samples/s)": samples_per_s}),
            )
        summary = f"loss {loss:.4f}, accuracy {accuracy:.1f} %, {samples_per_s:.0f} samples/s"
        if self._bar.disable:
            log.info("epoch %d/%d, step %d/%d: %s", epoch + 1, self._num_epochs, step, self._steps_per_epoch, summary)
        else:
            self._advance(epoch * self._steps_per_epoch + step, f"epoch {epoch + 1}/{self._num_epochs}, {summary}")

    def record(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Record the scalars of an epoch, from 0; they are on disk when this returns."""
        if not self._active:
            return
        self._metrics.write(json.dumps({"epoch": epoch, **scalars}) + "\n")
        self._metrics.flush()
        os.fsync(self._metrics.fileno())  # the checkpoint that follows must not outlive the record
        self._shown_at = time.monotonic()
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch)
        summary = f"loss {scalars['train/loss']:.4f}, accuracy {scalars['train/accuracy(%)']:.1f} %"
        self._advance((epoch + 1) * self._steps_per_epoch, f"epoch {epoch + 1}/{self._num_epochs}, {summary}")
        if self._bar.disable:
            left_s = scalars["time/epoch(s)"] * (self._num_epochs - epoch - 1)
            speed = scalars["time/throughput(samples/s)"]
            log.info("epoch %d/%d: %s, %.0f samples/s, %.0f s left", epoch + 1, self._num_epochs, summary, speed, left_s)

    def _advance(self, steps: int, summary: str) -> None:
        """Set the progress bar, which also estimates the remaining time, to a number of steps of the whole run."""
        self._bar.set_postfix_str(summary, refresh=False)
        self._bar.update(steps - self._bar.n)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._active:
            self._bar.close()
            self._writer.close()
            self._metrics.close()


def whole_lines(path: Path) -> list[str]:
    """Return the complete lines of a file; a last line cut short by a crash is left out. Empty if there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
