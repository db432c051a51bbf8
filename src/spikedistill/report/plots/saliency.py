"""What teachers and students attend to, with a sheet for each experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image

from spikedistill.report.plots.panels import Panel
from spikedistill.report.plots.pictures import (
    Pixels,
    Row,
    Scale,
    as_picture,
    class_names,
    normalised,
    sheet,
    shortened,
    true_classes,
)
from spikedistill.report.plots.style import HEAT
from spikedistill.report.records import Group, RunRecord, by_experiment, group_records

MAX_SAMPLES = 4
MAX_LETTERS = 9
OPACITY = 0.6
"""Of a map over the grey sample."""
WRONG = "✗"
"""Before a predicted class that is not the true one."""


def saliency_maps(records: Sequence[RunRecord]) -> list[Panel]:
    """Draw test samples with the teacher's class activation map and each student's activation map, of the first seed."""
    found = []
    for experiment, groups in by_experiment(group_records(records)).items():
        runs = _runs_with_examples(groups)
        if runs:
            scale = Scale(
                ScalarMappable(Normalize(0, 1), HEAT), "Activation, relative to the largest of its map", {0: "0", 1: "1"}
            )
            found.append(Panel(experiment, sheet(experiment, [_samples(runs[0]), *map(_maps, runs)], scale)))
    return found


def _runs_with_examples(groups: Sequence[Group]) -> list[RunRecord]:
    """Return the first run of each method that has examples, teacher first."""
    runs = [next((run for run in group.runs if run.examples is not None), None) for group in groups]
    return [run for run in runs if run is not None]


def _samples(run: RunRecord) -> Row:
    assert run.examples is not None
    titles = [shortened(name, MAX_LETTERS) for name in true_classes(run)]
    return Row("sample", [as_picture(sample) for sample in run.examples["samples"][:MAX_SAMPLES]], titles)


def _maps(run: RunRecord) -> Row:
    examples = run.examples
    assert examples is not None
    classes = class_names(run)
    pictures, titles = [], []
    for sample, saliency, label, predicted in zip(
        *(examples[key][:MAX_SAMPLES] for key in ("samples", "maps", "labels", "predictions")), strict=True
    ):
        pictures.append(_overlaid(as_picture(sample), saliency))
        mark = "" if label == predicted else f"{WRONG} "
        titles.append(mark + shortened(classes[int(predicted)], MAX_LETTERS - len(mark)))
    return Row(run.method if run.role == "student" else f"{run.method} (CAM)", pictures, titles)


def _overlaid(image: Pixels, saliency: Pixels) -> npt.NDArray[np.float64]:
    """Return a picture [H, W, 3]: the map in colours over the grey sample."""
    grey = image if image.ndim == 2 else image.mean(2)
    size = (grey.shape[1], grey.shape[0])
    smooth = np.asarray(Image.fromarray(normalised(saliency).astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps[HEAT](smooth)[..., :3]
    return OPACITY * colours + (1 - OPACITY) * grey[..., None]
