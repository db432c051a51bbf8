"""What the stages `teacher` and `distill` do with a network from elsewhere: inputs, weights, import without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from spikedistill.config.networks.imported import zoo_of
from spikedistill.data.loading.inputs import STATISTICS, InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError
from spikedistill.models import Student, Teacher
from spikedistill.models.imported.inputs import Conversion, Statistics
from spikedistill.models.imported.settings import NetworkInputs
from spikedistill.models.imported.weights import FOR_STUDENTS, FOR_TEACHERS, load_weights
from spikedistill.models.imported.zoo_network import ZooInputs
from spikedistill.plan.stages import NetworkSpec, TeacherSpec
from spikedistill.stages.runner import StageJob


@dataclass(frozen=True)
class DataFacts:
    """The properties of a prepared dataset that decide how a network is built.

    Attributes:
        kind: "images" or "frames".
        num_classes: number of classes.
        channels: channels of a sample.
        statistics: mean and standard deviation that images are normalised by; None for frames.
    """

    kind: Literal["images", "frames"]
    num_classes: int
    channels: int
    statistics: Statistics | None

    @classmethod
    def of(cls, data: SampleStore, inputs: InputConfig) -> DataFacts:
        """Return the facts of a prepared dataset whose samples become inputs in some way."""
        statistics = None
        if data.kind == "images":
            statistics = STATISTICS.get(inputs.normalize, (data.mean or (), data.std or ()))
        return cls(data.kind, data.num_classes, data.channels, statistics)


def teacher_inputs(spec: TeacherSpec, data: DataFacts) -> tuple[int, Conversion]:
    """Return the number of channels that a teacher takes, and how the student's batch is converted for it.

    What the spec leaves open is as for the student; for weights of another library's model, as that library says; and for a
    model that takes images of one size only, that size.

    Raises:
        ConfigError: if the model takes images of one size only, and is to be given another; or if mean and std are for
            another number of channels.
    """
    own, zoo = spec.own_inputs or NetworkInputs(), _zoo_inputs(spec)
    defaults = zoo if spec.weights else None
    given, channels = own.channels_for(data.channels, zoo_weights=defaults is not None)
    size = own.size if isinstance(own.size, int) else None
    if own.size is None and zoo is not None and (spec.weights or zoo.fixed_size):
        size = zoo.size
    if zoo is not None and zoo.fixed_size and size != zoo.size:
        raise ConfigError(f"teacher.inputs.size: {spec.arch!r} takes images of {zoo.size}x{zoo.size} only; set size: {zoo.size}")
    conversion = Conversion(
        given=data.statistics,
        wanted=_wanted_statistics(own, defaults if data.kind == "images" or own.events else None, channels),
        channels=channels if channels != given else None,
        size=size,
        grey_events=own.events is not None,
    )
    return channels, conversion


def _wanted_statistics(own: NetworkInputs, defaults: ZooInputs | None, channels: int) -> Statistics | None:
    """Return the mean and standard deviation that a teacher expects; None: those of the student's batch."""
    wanted: Statistics | None = None
    if own.mean is not None and own.std is not None:
        wanted = (own.mean, own.std)
    elif own.normalize is not None:
        wanted = STATISTICS.get(own.normalize)
    elif defaults is not None:
        wanted = (defaults.mean, defaults.std)
    if wanted is not None and len(wanted[0]) != channels:
        raise ConfigError(
            f"teacher.inputs: mean and standard deviation of {len(wanted[0])} channels for a teacher that takes {channels}; give "
            "others as mean: and std:, or set normalize: dataset"
        )
    return wanted


def _zoo_inputs(spec: TeacherSpec) -> ZooInputs | None:
    zoo = zoo_of(spec.arch)
    return zoo.inputs(spec.network) if hasattr(zoo, "inputs") else None  # type: ignore[union-attr]


def flat_classes(spec: TeacherSpec) -> tuple[list[int] | None, Sequence[int]]:
    """Return the rows of the checkpoint's classifier that a teacher keeps, and how many make each class."""
    if spec.classes is None:
        return None, ()
    return [index for group in spec.classes for index in group], [len(group) for group in spec.classes]


def check_weights(spec: NetworkSpec, job: StageJob) -> None:
    """Check that a file was given if the network is imported; that it is the planned one is checked where it is read.

    Raises:
        ConfigError: if none was.
    """
    if spec.weights is not None and job.options.weights is None:
        raise ConfigError(f"{spec.ref} is imported from a checkpoint: name it with --weights")


def load_into(network: Student | Teacher, spec: NetworkSpec, job: StageJob, data: SampleStore) -> None:
    """Load the checkpoint of `spec`, if it has one, into its network, and record in the manifest what was found.

    Raises:
        ConfigError: naming the file, what does not fit, and what to do; if it is not the file that the stage was planned with;
            or if the network does not take the samples of `data`.
    """
    if spec.weights is None:
        return
    assert job.options.weights is not None, "check_weights comes first"
    rows, _ = flat_classes(spec) if isinstance(spec, TeacherSpec) else (None, ())
    file = job.options.weights.expanduser()
    found = load_weights(
        network.network,
        file,
        sha256=spec.weights,
        rows=rows,
        fine_tune=spec.train is not None,
        advice=FOR_TEACHERS if isinstance(spec, TeacherSpec) else FOR_STUDENTS,
    )
    imported: dict[str, Any] = {"file": file.name, "sha256": spec.weights, "matched": found.how, "place": found.place}
    job.facts["imported"] = imported | {"new_layers": list(found.fresh)}
    _check_forward(network, next(Loader(data, "train", batch_size=1, inputs=spec.inputs).epoch(0))[0])


@torch.no_grad()
def _check_forward(network: Student | Teacher, sample: torch.Tensor) -> None:
    """Check that a network takes one sample, before it is trained and others are trained from it."""
    network.eval()
    try:
        network(sample)
    except (RuntimeError, ValueError, AssertionError) as err:
        shape = "x".join(map(str, sample.shape[-3:]))
        raise ConfigError(f"the network does not take samples of {shape}: {str(err).strip().partition(chr(10))[0]:.300}") from err
