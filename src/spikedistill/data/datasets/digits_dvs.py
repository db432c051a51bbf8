"""The digits seen by a simulated event camera: written as AEDAT 2.0, then decoded and integrated like CIFAR10-DVS."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.data.datasets.digits import CLASS_NAMES, writer_splits
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_aedat2, write_aedat2
from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import simulate
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.data.prepare.simulate import SENSOR

NEEDS_RAW = False
SPLIT_SAMPLES = (1437, 360)  # to train and to test on, for estimates


class Params(ComponentParams):
    """How the events become frames."""

    num_frames: int = Field(4, ge=1, description="Frames T per recording.")
    split_by: Literal["number", "time"] = Field("number", description="Frames with equal numbers of events, or of equal time.")


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return DatasetMeta("frames", CLASS_NAMES, channels=2, height=SENSOR, width=SENSOR, num_frames=params.num_frames)


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Simulate the recordings, then decode and integrate them."""
    folder = work / "recordings"
    shutil.rmtree(folder, ignore_errors=True)
    recordings = record(folder, num_workers=num_workers)
    how = FrameParams(num_frames=params.num_frames, split_by=params.split_by)
    rows = write_frames(recordings, whole_files(decode_aedat2), how, out, sensor=(SENSOR, SENSOR), num_workers=num_workers)
    notes = {"dataset": "digits-dvs", **params.model_dump()}
    write_index(out, kind="frames", class_names=CLASS_NAMES, rows=rows, splits=writer_splits(), recipe=notes)


def record(folder: Path, *, num_workers: int) -> list[Recording]:
    """Write one AEDAT 2.0 recording per digit, `digit_<number>_<class>.aedat`, and return the recordings.

    Args:
        folder: target folder, which is created.
        num_workers: number of processes.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.int64), digits.target.tolist()
    paths = [folder / f"digit_{number:04d}_{label}.aedat" for number, label in enumerate(labels)]
    folder.mkdir(parents=True)
    simulate.record(images, paths, write_aedat2, simulated=simulate.simulate_digits, num_workers=num_workers)
    return [Recording(Member(str(path)), path.stem, label) for path, label in zip(paths, labels, strict=True)]
