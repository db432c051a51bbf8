"""Classes of ImageNet's validation images, which are published in one folder, without classes."""

from __future__ import annotations

import csv
import io
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePosixPath

from spikedistill.data.formats import archives
from spikedistill.data.formats.files import read_file, read_text
from spikedistill.errors import DataError

DEVKIT, MD5 = "ILSVRC2012_devkit_t12", "fa75699e90414af021442c21a62c3abf"
SOLUTION = "LOC_val_solution.csv"
MAX_BYTES = 64 << 20  # of a file of the development kit
_FILES = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")


def validation_number(name: str) -> int | None:
    """Return the number in the published name of a validation image, from 1; None for other names."""
    found = re.fullmatch(r"ILSVRC2012_val_(\d{8})", PurePosixPath(name).stem)
    return int(found.group(1)) if found else None


def validation_classes(root: Path, look: Callable[[str], Path | None], *, strict: bool) -> dict[int, str]:
    """Return the classes of the validation images by their numbers.

    Args:
        root: the user's folder.
        look: finds a file or folder in it by name.
        strict: whether the development kit must have its published md5.

    Raises:
        DataError: if there is neither the development kit nor Kaggle's table, or it cannot be read.
    """
    table = look(SOLUTION)
    if table is not None:
        return _read_solution(table)
    folder = look(DEVKIT)
    if folder is not None:
        paths = {name: folder / "data" / name for name in _FILES}
        missing = [str(path) for path in paths.values() if not path.is_file()]
        if missing:
            raise DataError(f"the development kit is incomplete: no {' and no '.join(missing)}")
        return _read_devkit({name: read_file(path, limit=MAX_BYTES) for name, path in paths.items()}, folder)
    archive = look(f"{DEVKIT}.tar.gz")
    if archive is None:
        raise DataError(
            f"{root}: the validation images are not in class folders, and the file with their classes is missing: either "
            f"{DEVKIT}.tar.gz, which comes with the images, or {SOLUTION} from Kaggle"
        )
    if strict:
        archives.check_md5({archive: MD5})
    return _read_devkit(_unpacked(archive), archive)


def _unpacked(archive: Path) -> dict[str, bytes]:
    contents = archives.read_tar(archive, _FILES, limit=MAX_BYTES)
    if len(contents) < len(_FILES):
        raise DataError(f"{archive}: not the development kit: it has no {' or no '.join(set(_FILES) - set(contents))}")
    return contents


def _read_devkit(contents: dict[str, bytes], source: Path) -> dict[int, str]:
    table, numbers = (contents[name] for name in _FILES)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            names = pool.submit(_names_by_number, table).result()
        return {number: names[int(line)] for number, line in enumerate(numbers.split(), 1)}
    except Exception as err:  # damaged bytes can raise anything
        text = f"{source}: the classes of the validation images cannot be read from it ({err!r}); get it again"
        raise DataError(text) from err


def _names_by_number(table: bytes) -> dict[int, str]:
    """Read meta.mat, in a process of its own, because scipy crashes on some damaged ones."""
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(table), squeeze_me=True)["synsets"]
    return {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets if entry["num_children"] == 0}


def _read_solution(table: Path) -> dict[int, str]:
    """Read lines of an image and "class x y x y class x y x y …"; a first line that names no image is a heading."""
    try:
        lines = [line for line in csv.reader(io.StringIO(read_text(table), newline="")) if line]
    except csv.Error as err:
        raise DataError(f"{table}: not Kaggle's table with image and class on each line ({err})") from err
    classes: dict[int, str] = {}
    for line in lines[1:] if lines and validation_number(lines[0][0]) is None else lines:
        number, names = validation_number(line[0]), line[1].split() if len(line) == 2 else []
        if number is None or not names:
            found = ",".join(line)[:80]
            raise DataError(f"{table}: not Kaggle's table with image and class on each line, as in {found!r}; get it again")
        if classes.setdefault(number, names[0]) != names[0]:
            raise DataError(f"{table}: {line[0]} is of class {classes[number]} and of class {names[0]}; get it again")
    return classes
