"""Checks of teachers and students from elsewhere: their files, classes and inputs. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from spikedistill import components
from spikedistill.config.models import ExperimentConfig, TeacherConfig
from spikedistill.data.loading.inputs import STATISTICS
from spikedistill.data.meta import DatasetMeta
from spikedistill.errors import ConfigError
from spikedistill.models.imported.settings import NetworkInputs

Problem = tuple[tuple[str, ...], str]
"""The key, within an experiment, and what is wrong there."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_MAX_HEADER = 100_000_000  # bytes of the header of a safetensors file, the limit of that format


def zoo_of(arch: str) -> ModuleType | None:
    """Return the adapter of an architecture that is another library's ANN; None for others."""
    if "/" not in arch:
        return None
    module, _ = components.load_architecture(arch)
    return module if getattr(module, "ANN_ONLY", False) else None


def class_indices(classes: Sequence[Any] | Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the indices of the checkpoint's classes for each class of the dataset.

    Args:
        classes: by the order of the dataset's classes, or by their names; an index or several for each.
        names: the dataset's classes.

    Raises:
        ConfigError: if a class is missing or unknown, or an index is negative or appears twice.
    """
    if isinstance(classes, Mapping):
        if unknown := sorted(classes.keys() - set(names)):
            raise ConfigError(components.unknown("class of the dataset", unknown[0], names))
        if missing := [name for name in names if name not in classes]:
            raise ConfigError(f"an index is needed for every class of the dataset; missing: {', '.join(missing[:10])}")
        classes = [classes[name] for name in names]
    if len(classes) != len(names):
        raise ConfigError(
            f"an index, or a list of them, for each of the {len(names)} classes of the dataset; found {len(classes)}"
        )
    found = tuple((each,) if isinstance(each, int) else tuple(each) for each in classes)
    flat = [index for group in found for index in group]
    if min(map(len, found)) == 0 or min(flat) < 0:
        raise ConfigError("at least one index for each class, from 0")
    if twice := sorted({index for index in flat if flat.count(index) > 1}):
        raise ConfigError(f"an index can stand for one class only; found twice: {', '.join(map(str, twice[:10]))}")
    return found


def imported_problems(experiment: ExperimentConfig, meta: DatasetMeta) -> Iterator[Problem]:
    """Yield what is wrong with the teacher and the students of an experiment as far as they come from elsewhere."""
    if experiment.teacher is not None:
        yield from _teacher_problems(experiment.teacher, meta)
    if (zoo := zoo_of(experiment.student.arch)) is not None:
        reason = f"{experiment.student.arch!r} is an ANN of {zoo.ZOO}, for teachers; `spikedistill list architectures` has others"
        yield ("student", "arch"), reason
    for label, method in experiment.methods.items():
        if method.weights is not None:
            if fault := fault_of_weights(method.weights):
                yield ("methods", label, "weights"), fault
        elif experiment.student.train is None:
            yield ("student", "train"), f"is required and not given: method {label!r} has no `weights` and is to be trained"


def _teacher_problems(teacher: TeacherConfig, meta: DatasetMeta) -> Iterator[Problem]:
    if teacher.weights is None and teacher.train is None:
        yield ("teacher", "train"), "is required and not given; only a teacher that has `weights` can do without"
    if teacher.weights is None and teacher.classes is not None:
        yield ("teacher", "classes"), "is about the classes of a checkpoint, and no `weights` are given"
    if teacher.weights is not None and (fault := fault_of_weights(teacher.weights)):
        yield ("teacher", "weights"), fault
    if teacher.classes is not None:
        try:
            class_indices(teacher.classes, meta.class_names)
        except ConfigError as err:
            yield ("teacher", "classes"), str(err)
    if zoo_of(teacher.arch) is not None and teacher.width != 1:
        yield ("teacher", "width"), f"is for architectures of spikedistill; the width of {teacher.arch!r} is fixed"
    yield from ((("teacher", "inputs", *key), reason) for key, reason in _input_problems(teacher, meta))


def _input_problems(teacher: TeacherConfig, meta: DatasetMeta) -> Iterator[Problem]:
    inputs, zoo_weights = teacher.inputs, zoo_of(teacher.arch) is not None and teacher.weights is not None
    is_image = meta.kind == "images" or inputs.events is not None
    given, wanted = inputs.channels_for(meta.channels, zoo_weights=zoo_weights)
    if meta.kind == "images" and inputs.events:
        yield ("events",), "is for event frames; the dataset has images"
    if not is_image and (inputs.mean or inputs.normalize not in (None, "dataset")):
        yield ("normalize",), "is for images; event frames are not normalised, unless they become images by events: grey"
    if not is_image and wanted != given:
        reason = f"event frames have 2 channels, and the teacher takes {wanted}: with events: grey they become grey images"
        yield ("events",), f"{reason}; or train a teacher on them, without `weights`"
    elif wanted != given and given != 1:
        yield ("channels",), f"the dataset has {given} channels, and the teacher takes {wanted}; only grey images can be repeated"
    if is_image:
        yield from _statistics_problems(inputs, wanted, zoo_weights=zoo_weights)


def _statistics_problems(inputs: NetworkInputs, wanted: int, *, zoo_weights: bool) -> Iterator[Problem]:
    """Yield what is wrong with the length of mean and standard deviation; those of a library's weights are for 3 channels."""
    if inputs.mean is None and inputs.normalize is None and zoo_weights and wanted != 3:
        yield (
            ("channels",),
            f"mean and standard deviation of 3 channels for a teacher that takes {wanted}; give others as mean: and std:, or set "
            "normalize: dataset",
        )
    mean = inputs.mean or STATISTICS.get(inputs.normalize or "", ((),))[0]
    if mean and len(mean) != wanted:
        reason = f"mean and std are for {len(mean)} channels, and the teacher takes {wanted}; set channels: {len(mean)}"
        yield ("channels",), reason


def feature_problems(teacher: TeacherConfig) -> Iterator[str]:
    """Yield why a method that compares feature maps cannot use a teacher."""
    entry = components.architecture(teacher.arch).entry
    zoo = zoo_of(teacher.arch)
    hidden = entry.get("hidden") or entry.get("pooled_size")
    if hidden if zoo is None else not _is_known_as_plain(zoo, entry):
        yield (
            f"needs a teacher that classifies by one linear layer on pooled features, and {teacher.arch!r} "
            f"{'does not' if zoo is None else 'does not, or is not known to'}; choose another teacher.arch, such as resnet18 or "
            "resnet34"
        )
    classes = teacher.classes.values() if isinstance(teacher.classes, dict) else teacher.classes or ()
    if any(isinstance(each, list) and len(each) > 1 for each in classes):
        yield "needs a teacher with one output for each class, and teacher.classes joins several"


def map_problems(teacher: TeacherConfig) -> Iterator[str]:
    """Yield why a method that compares maps [B, D, h, w] stage by stage cannot use a teacher."""
    zoo = zoo_of(teacher.arch)
    entry = components.architecture(teacher.arch).entry
    if zoo is not None and not _is_known_as_plain(zoo, entry):
        yield (
            f"compares feature maps, and none are known of {teacher.arch!r}; choose a convolutional teacher.arch, such as "
            "resnet34, or torchvision/resnet50, whose last maps are known"
        )


def _is_known_as_plain(zoo: ModuleType, entry: Mapping[str, Any]) -> bool:
    return hasattr(zoo, "plain_classifier") and zoo.plain_classifier(entry)


def fault_of_weights(name: str) -> str | None:
    """Return why a file cannot be a checkpoint, or None if it may be one."""
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return f"{name} is a folder; name the checkpoint in it"
        with path.open("rb") as stream:
            head = stream.read(8)
        if path.suffix == ".safetensors":
            known = len(head) == 8 and int.from_bytes(head, "little") <= min(_MAX_HEADER, path.stat().st_size)
        else:
            known = head.startswith((_ZIP, _PICKLE))
    except (OSError, ValueError, RuntimeError) as err:
        return f"{name}: {getattr(err, 'strerror', None) or err}"
    return None if known else f"{name} is no checkpoint: neither safetensors nor written by torch.save"
