"""Classes of ImageNet's validation images, which are published in one folder, without classes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from spikedistill.data.formats import archives
from spikedistill.errors import DataError

DEVKIT, MD5 = "ILSVRC2012_devkit_t12", "fa75699e90414af021442c21a62c3abf"
SOLUTION = "LOC_val_solution.csv"
_FILES = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")


def validation_number(name: str) -> int | None:
    """Return the number in the published name of a validation image, from 1; None for other names."""
    found = re.fullmatch(r"ILSVRC2012_val_(\d{8})", PurePosixPath(name).stem)
    return int(found.group(1)) if found else None


def validation_classes(root: Path, look: Callable[[str], Path | None], *, strict: bool) -> dict[int | None, str]:
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
        return _read_devkit({name: path.read_bytes() for name, path in paths.items()}, folder)
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
    contents = archives.read_tar(archive, _FILES)
    if len(contents) < len(_FILES):
        raise DataError(f"{archive}: not the development kit: it has no {' or no '.join(set(_FILES) - set(contents))}")
    return contents


def _read_devkit(contents: dict[str, bytes], source: Path) -> dict[int | None, str]:
    from scipy.io import loadmat

    table, numbers = (contents[name] for name in _FILES)
    try:
        synsets = loadmat(io.BytesIO(table), squeeze_me=True)["synsets"]
        names = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets if entry["num_children"] == 0}
        return {number: names[int(line)] for number, line in enumerate(numbers.split(), 1)}
    except Exception as err:  # damaged bytes can raise anything
        raise DataError(f"{source}: the classes of the validation images cannot be read from it ({err!r})") from err


def _read_solution(table: Path) -> dict[int | None, str]:
    """Read lines of an image and "class x y x y class x y x y …"."""
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line][1:]
        return {validation_number(image): boxes.split()[0] for image, boxes in lines}
    except (OSError, ValueError, IndexError) as err:
        raise DataError(f"{table}: not Kaggle's table with image and class on each line ({err})") from err
