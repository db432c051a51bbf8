"""Event frames of test recordings, with a sheet for each experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from spikedistill.report.plots.panels import Panel
from spikedistill.report.plots.pictures import Pixels, Row, Scale, normalised, sheet, true_classes
from spikedistill.report.records import RunRecord

MAX_RECORDINGS, MAX_FRAMES = 3, 5
COLOURS = "PuOr_r"


def event_frames(records: Sequence[RunRecord]) -> list[Panel]:
    """Draw frames of a few test recordings: pixels with more ON events are orange, with more OFF events purple."""
    first: dict[str, RunRecord] = {}
    for run in records:
        if run.examples is not None and run.examples["samples"].ndim == 5:
            first.setdefault(run.experiment, run)
    scale = Scale(
        ScalarMappable(Normalize(-1, 1), COLOURS),
        "Events, relative to the frame's largest count",
        {-1: "OFF", 0: "none", 1: "ON"},
    )
    return [Panel(experiment, sheet(experiment, _rows(run), scale)) for experiment, run in first.items()]


def _rows(run: RunRecord) -> list[Row]:
    assert run.examples is not None
    recordings = run.examples["samples"][:MAX_RECORDINGS]  # [B, T, 2, H, W]
    num_frames = recordings.shape[1]
    chosen = np.unique(np.linspace(0, num_frames - 1, min(MAX_FRAMES, num_frames)).round().astype(int))
    titles = [f"frame {t + 1}" if i == 0 else str(t + 1) for i, t in enumerate(chosen)]
    return [
        Row(f"class {name}", [_coloured(recording[t]) for t in chosen], titles)
        for recording, name in zip(recordings, true_classes(run), strict=False)
    ]


def _coloured(frame: Pixels) -> Pixels:
    """Return [H, W, 3] of a frame [2, H, W] of OFF and ON events."""
    off, on = frame.astype(float)
    return np.asarray(matplotlib.colormaps[COLOURS]((normalised(on - off) + 1) / 2))[..., :3]
