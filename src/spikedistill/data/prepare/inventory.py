"""Comparison of a downloaded dataset with what was published; every missing or surplus file is named. Standard library only."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from spikedistill.data.formats.archives import Member, files_below, is_clutter, wrong_md5, zip_members
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare.frames import FrameParams, Recording
from spikedistill.data.prepare.splits import named
from spikedistill.errors import DataError

log = logging.getLogger(__name__)


class Problems(list[str]):
    """Problems of a dataset as a whole, which `strict: false` excuses.

    Attributes:
        never_excused: those that remain an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.never_excused: list[str] = []


class DownloadedParams(FrameParams):
    """How recordings become frames, and whether the download must be complete."""

    strict: bool = Field(
        True, description="Require every file, and archives with their published md5; false: use the files that are there."
    )


def describe(params: FrameParams, class_names: Sequence[str], sensor: tuple[int, int]) -> DatasetMeta:
    """Return classes and shape of a dataset of event frames, given the rows and columns of its sensor."""
    height, width = params.picture(sensor)
    return DatasetMeta("frames", tuple(class_names), channels=2, height=height, width=width, num_frames=params.num_frames)


def find_folder(root: Path, below: Sequence[str], is_it: Callable[[Path], bool]) -> Path | None:
    """Find the first folder that `is_it` accepts among `root`, its `extract` and `download`, and those called `below` in them."""
    tops = [root, root / "extract", root / "download"]
    candidates = [folder for top in tops for folder in (top, *(top / name for name in below))]
    return next((folder for folder in candidates if folder.is_dir() and is_it(folder)), None)


def find_archives(root: Path, names: Collection[str]) -> dict[str, Path]:
    """Find archives by name in `root`, its `download`, or its `extract`."""
    places = [root, root / "download", root / "extract"]
    return {name: path for name in names if (path := next((p / name for p in places if (p / name).is_file()), None))}


def files_in_archives(packed: Mapping[Path, str], problems: list[str], *, strict: bool) -> list[Member]:
    """Return the files in some zip archives.

    Args:
        packed: published md5 by archive.
        problems: gets a line for each archive that cannot be read or, if `strict`, has another md5.
        strict: whether to compare the md5.
    """
    if strict:
        problems += [f"not as published: {line}" for line in wrong_md5(dict(packed))]
    members: list[Member] = []
    for archive in packed:
        try:
            members += zip_members(archive)
        except DataError as err:
            problems.append(str(err))
    return members


def group_by_class(
    members: Iterable[Member], class_names: Collection[str], suffix: str, problems: Problems
) -> dict[str, dict[str, Member]]:
    """Group recordings by the folder that they lie in, which is their class.

    Args:
        members: all files.
        class_names: names of the folders.
        suffix: file name suffix of recordings; other files, such as those that file managers leave behind, are ignored.
        problems: gets a line for recordings in other folders, and one for those of a class that have the same name.

    Returns:
        Class name -> file name -> file; with every class, even an empty one.
    """
    found: dict[str, dict[str, Member]] = {name: {} for name in class_names}
    other, surplus, doubled = [], [], []
    for member in members:
        path = member.name or member.path
        folder, _, file = path.rpartition("/")
        class_name = folder.rpartition("/")[2]
        if not file.endswith(suffix) or is_clutter(path):
            other.append(str(member))
        elif class_name in found:
            first = found[class_name].setdefault(file, member)
            if first is not member:
                doubled.append(f"{first} and {member}")
        else:
            surplus.append(str(member))
    for line in summarize("ignored files that are not recordings", other):
        log.info("%s", line)
    problems += summarize("recordings in folders that the dataset does not have", surplus)
    problems.never_excused += summarize("recordings of the same class and name (move one of each away)", doubled)
    return found


def in_two_parts(parts: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a line that names the files that lie in two parts of a dataset, through a link for instance; or no line.

    Args:
        parts: paths of the files by part, the part to train on first.
    """
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    shared = []
    for part, paths in parts.items():
        for path in paths:
            found = os.stat(path)  # noqa: PTH116 - there are many of them
            other, first = seen.setdefault((found.st_dev, found.st_ino), (part, path))
            if other != part:
                shared.append(path if path == first else f"{path} = {first}")
    return summarize(f"files are in both of {' and '.join(parts)}", shared)


def files_in_classes(folder: Path, class_names: Iterable[str]) -> list[Member]:
    """Return the files below the folders of some classes; folders may be missing."""
    return [member for name in class_names if (folder / name).is_dir() for member in files_below(folder / name)]


def make_recordings(found: Mapping[str, Mapping[str, Member]], prefix: str = "") -> list[Recording]:
    """Return the recordings that `group_by_class` found, class by class, ordered by the numbers at the end of their names.

    Args:
        found: class name -> file name -> file; classes in the order of their labels.
        prefix: beginning of the ids.
    """
    return [
        Recording(member, f"{prefix}{class_name}/{file_stem(file)}", label)
        for label, (class_name, files) in enumerate(found.items())
        for file, member in sorted(files.items(), key=lambda entry: natural_key(entry[0]))
    ]


def compare_files(found: Mapping[str, Collection[str]], expected: Mapping[str, Collection[str]], problems: list[str]) -> None:
    """Compare the files of each class with the expected ones; add the missing and the surplus ones to `problems`."""
    empty = [name for name, files in expected.items() if files and not found.get(name)]
    problems += summarize("classes without a recording", empty)
    missing = [f"{n}/{file}" for n, files in expected.items() if n not in empty for file in files if file not in found[n]]
    known = {name: set(files) for name, files in expected.items()}
    surplus = [f"{n}/{file}" for n, files in found.items() for file in files if file not in known.get(n, ())]
    problems += summarize("missing recordings", missing) + summarize("recordings that the dataset does not have", surplus)


def compare_sizes(found: Mapping[str, Mapping[str, Member]], archives: Iterable[Path], problems: list[str]) -> None:
    """Add to `problems` unpacked recordings whose size differs from that in their archive, where the archive is there, too."""
    packed = files_in_archives(dict.fromkeys(archives, ""), [], strict=False)
    sizes = {tuple(member.name.split("/")[-2:]): member.size for member in packed}
    cut = []
    for class_name, files in found.items():
        for name, member in files.items():
            expected = sizes.get((class_name, name))
            if expected is not None and not member.name and (there := Path(member.path).stat().st_size) != expected:
                cut.append(f"{member} ({there} bytes, {expected} in its archive)")
    problems += summarize("recordings that differ from those in their archives", cut)


def summarize(what: str, names: Sequence[str]) -> list[str]:
    """Return one line that counts and names some files, or no line if there are none."""
    if not names:
        return []
    return [f"{len(names)} {what}: {named(names)}"]


def error_or_warning(dataset: str, root: Path, problems: Sequence[str], *, strict: bool) -> str:
    """Return an error text about an incomplete dataset, to be raised later; if not `strict`, log it as a warning instead.

    The error is raised after the recordings were read, so that all problems are reported together.

    Returns:
        The error text; empty if there are no problems. If not `strict`, only those that are never excused are in it.
    """
    never_excused = "\n".join(f"{root}: {line}" for line in getattr(problems, "never_excused", ()))
    if not problems:
        return never_excused
    text = f"{root}: {dataset} is not complete:\n  " + "\n  ".join(problems)
    if strict:
        log.info("%s is not complete; reading the files that are there, to report all problems together", dataset)
        advice = "Get these files again, or set strict: false to use what is there."
        return "\n".join(filter(None, [f"{text}\n{advice}", never_excused]))
    log.warning("%s", text)
    return never_excused


def natural_key(name: str) -> tuple[int, str]:
    """Return a key that sorts the recordings of a class by the number at the end of their names."""
    return number_of(name), name


def file_stem(name: str) -> str:
    """Return a file name without its suffix."""
    return name.rpartition(".")[0] or name


def number_of(name: str) -> int:
    """Return the number at the end of a recording's name, -1 if there is none."""
    stem = file_stem(name)
    digits = stem[len(stem.rstrip("0123456789")) :]
    return int(digits) if digits else -1


def spikingjelly_order(class_names: Sequence[str], files: Sequence[tuple[int, str]]) -> list[int]:
    """Return the rows in the order in which SpikingJelly lists recordings: classes by name, then files by name, as strings.

    Args:
        class_names: by label.
        files: label and file name of each row.
    """
    return sorted(range(len(files)), key=lambda row: (class_names[files[row][0]], files[row][1]))
