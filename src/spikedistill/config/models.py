"""The settings of config.yaml as pydantic models. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from spikedistill.components import Section
from spikedistill.data.loading.inputs import InputConfig
from spikedistill.evaluate.settings import EvaluateConfig
from spikedistill.models.imported.settings import NetworkInputs
from spikedistill.models.settings import Backward
from spikedistill.neurons.settings import Encoding, NeuronConfig, neuron_problems
from spikedistill.train.settings import EngineConfig, TrainConfig

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""A label that a user chooses; matched as a whole."""
MAX_RUNS = 20_000
"""Rows of the report, over all experiments, methods and seeds."""
SWEPT_OF_DATASET = frozenset({"train_samples"})
"""Keys of a dataset, apart from its parameters, that can be swept by a list."""


Seed = Annotated[int, Field(ge=0, lt=2**63)]


class DatasetConfig(Section):
    """Which data, and how it is prepared."""

    name: str = Field(description="Dataset: a name that `spikedistill list datasets` shows; those of plug-ins, too.")
    root: str | None = Field(
        None, description="Folder of the data as downloaded; never changed. Not needed by datasets that make their own."
    )
    params: dict[str, Any] = Field({}, description="Parameters of the dataset, listed below under its name.")
    validation: float = Field(
        0.0,
        ge=0,
        lt=2**31,
        description="Samples of the training split that are held out for validation, the same for every network: a share "
        "below 1, "
        "or a number; drawn class by class. 0: none. The test split never selects anything.",
    )
    train_samples: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Samples to train on, drawn class by class from those that are not held out; smaller sets are part of "
        "larger. 0: all.",
    )
    inputs: InputConfig = Field(InputConfig(), description="How samples are presented to the networks: crop, size, scale.")


class _NetworkConfig(Section):
    arch: str = Field(
        description="Architecture: a name that `spikedistill list architectures` shows; those of plug-ins, too. Teachers can "
        "also be torchvision/NAME and timm/NAME, students spikingjelly/NAME."
    )
    width: float = Field(
        1.0,
        gt=0,
        le=8,
        description="Channels of every layer, as a multiple of the architecture's; rounded, but no fewer than 16.",
    )


class TeacherConfig(_NetworkConfig):
    """The ANN whose knowledge is distilled. Experiments with an equal teacher share one."""

    seed: Seed | Literal["student"] = Field(
        0,
        description="Seed of the teacher's initial weights, sample order and augmentation; student: each student has a teacher "
        "of its own, trained with its seed.",
    )
    weights: str | None = Field(
        None,
        description="Checkpoint to import: .safetensors, or .pth and the like without code in it. Its checksum is in the id.",
    )
    inputs: NetworkInputs = Field(
        NetworkInputs(), description="The teacher's inputs, where they differ from the student's; the defaults suit the weights."
    )
    classes: list[int | list[int]] | dict[str, int | list[int]] | None = Field(
        None,
        description="Which classes of the checkpoint stand for those of the dataset: for each of these, in order or by name, "
        "one index or more. Default: the checkpoint has the classes of the dataset, in the same order.",
    )
    train: TrainConfig | None = Field(
        None,
        description="How the teacher is trained; with `weights`, fine-tuned from them. Only with `weights` may it be left out.",
    )


class StudentConfig(_NetworkConfig):
    """The SNN that is trained."""

    FORMER_KEYS: ClassVar[dict[str, str]] = {"divide_by_steps": "is called scale_grad_by_steps now, with the same values"}

    time_steps: int = Field(ge=1, description="Time steps T per sample. With event frames: the number of frames.")
    neuron: NeuronConfig = Field(default_factory=NeuronConfig, description="The spiking neuron.")
    encoding: Encoding = Field(
        "direct",
        description="Images: what the first layer gets. direct, the image at every step; poisson, at each step a spike with the "
        "probability of the intensity; latency, one spike, the earlier the brighter. Intensities are the pixels before "
        "normalisation.",
    )
    backward: Backward = Field(
        "bptt",
        description="How gradients are computed: through all time steps, or rate-based, whose memory does not grow with T.",
    )
    scale_grad_by_steps: bool = Field(
        True, description="With backward: rate, divide the gradient by T, as the authors' code does; no effect otherwise."
    )
    train: TrainConfig | None = Field(
        None, description="How students are trained, whatever the method. May be left out if every method has `weights`."
    )

    def problems(self, kind: str) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the keys that do not fit each other, or data of a kind ("images" or "frames"), each with the reason."""
        yield from ((("neuron", key), reason) for key, reason in neuron_problems(self.neuron))
        if self.backward == "rate" and "rate" not in self.neuron.component.SUPPORTS:
            yield ("backward",), f"neuron {self.neuron.name!r} has no rate-based backward pass, as lif does: set it to bptt"
        if self.backward == "rate" and self.encoding == "latency":
            reason = "latency spikes have the same mean over time for every image, and backward: rate computes gradients from it"
            yield ("encoding",), f"{reason}: set it to poisson or direct, or backward to bptt"
        if self.encoding == "latency" and self.time_steps == 1:
            yield (
                ("encoding",),
                "with one time step, latency gives every pixel of every image the same spike: set time_steps to 2 or more",
            )
        if kind == "frames" and self.encoding != "direct":
            yield ("encoding",), f"{self.encoding} is for images; event frames have their own time: set it to direct"


class MethodConfig(Section):
    """One row of the comparison: a method with its parameters."""

    method: str | None = Field(
        None,
        description="Method: a name that `spikedistill list methods` shows; those of plug-ins, too. Default: the label "
        "of this entry.",
    )
    params: dict[str, Any] = Field({}, description="Parameters of the method, listed below under its name.")
    train: dict[str, Any] = Field(
        {},
        description="Keys that this method changes in `student.train`, such as {lr: 0.05}; a section replaces the whole section.",
    )
    weights: str | None = Field(
        None,
        description="Checkpoint of a student that was trained elsewhere, by this method: it is evaluated, once, and nothing is "
        "trained.",
    )
    together: list[list[str]] = Field(
        [], description="Groups of parameters given as lists that are walked in step, as in [[alpha, beta]], not crossed."
    )


class ExperimentConfig(Section):
    """One comparison: a dataset, a teacher, a student, and the methods that train the student."""

    dataset: DatasetConfig = Field(description="The data.")
    teacher: TeacherConfig | None = Field(None, description="The teacher. Needed by every method that distils from one.")
    student: StudentConfig = Field(description="The student.")
    methods: dict[str, MethodConfig] = Field(
        min_length=1, description="Methods to compare, by a label of your choice; each is trained once per seed."
    )
    baseline: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Label of the method that the report compares the others with, seed by seed; or several, as in [ce, tet]: "
        "the table is against the first, the paired tests against each. "
        "Default: the first that needs no teacher, else the first.",
    )
    together: list[list[str]] = Field(
        [],
        description="Groups of keys given as lists that are walked in step, as in "
        "[[dataset.params.num_frames, student.time_steps]], not crossed.",
    )

    @property
    def baselines(self) -> tuple[str, ...]:
        """The labels of `baseline`, in order; empty if none is given."""
        if self.baseline is None:
            return ()
        return (self.baseline,) if isinstance(self.baseline, str) else tuple(self.baseline)

    def recipe_of(self, method: str) -> TrainConfig | None:
        """Return how the students of a method are trained, given its label: `student.train` with what the method changes.

        Raises:
            ValidationError: if its changes are not valid; `parse_config` has checked them.
        """
        common, changes = self.student.train, self.methods[method].train
        if common is None or not changes:
            return common
        return TrainConfig.model_validate({**common.model_dump(exclude_unset=True), **changes})


class Config(Section):
    """The whole of config.yaml."""

    store: str = Field(
        "store", min_length=1, description="Folder of the artifacts: data, teachers, students, evaluations. May be shared."
    )
    results: str = Field("results", min_length=1, description="Folder of the report and the TensorBoard logs.")
    engine: EngineConfig = Field(EngineConfig(), description="How training runs; changes no id.")
    seeds: list[Seed] = Field([0], min_length=1, description="One student per method and seed.")
    rehearse: bool = Field(
        False,
        description="Try the whole workflow first: networks of an eighth of their width, one epoch each. The data is prepared "
        "as for the real run; the report goes to `results` with -rehearsal at the end.",
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="How trained networks are measured.")
    plugins: list[str] = Field(
        [],
        description="Packages (my_lab.snn) and folders (./ours) with components of your own: methods, datasets, networks and "
        "more; see docs/extending.md.",
    )
    experiments: dict[str, ExperimentConfig] = Field(min_length=1, description="Comparisons, by a label of your choice.")

    @field_validator("store", "results")
    @classmethod
    def _of_a_home(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("a path has no null character")
        try:
            return str(Path(value).expanduser()) if value.startswith("~") else value
        except RuntimeError as err:
            raise ValueError(f"{value.partition('/')[0]}: no such user on this machine") from err

    @field_validator("seeds")
    @classmethod
    def _once_each(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("each seed may appear once")
        return value
