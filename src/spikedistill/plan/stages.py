"""The stages of the pipeline: the spec of each, and `STAGES`, the one table that every list of stages reads. Imports no torch.

To add a stage: its spec and its row here, where it joins the plan in `build.py`, what it does in `spikedistill/stages/NAME.py`,
and its rule in `workflow/rules/NAME.smk`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from spikedistill import components
from spikedistill.data.loading.inputs import InputConfig
from spikedistill.errors import ConfigError, StaleCodeError
from spikedistill.evaluate.settings import EvaluateConfig
from spikedistill.models.imported.settings import NetworkInputs
from spikedistill.models.settings import Backward
from spikedistill.neurons.settings import Encoding, NeuronConfig
from spikedistill.plan.code import code_changes, code_of
from spikedistill.plan.identity import content_id
from spikedistill.train.settings import TrainConfig


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: ClassVar[str]
    """Folder of the store in which the artifacts of this stage lie."""
    component: ClassVar[tuple[components.Kind, str] | None] = None
    """Kind of the component whose parameters are in `params`, and the field with its name."""
    schema_version: Literal[1] = 1
    code: dict[str, str] = {}
    """Versions and digests of the code that makes the artifact, see `code_of`; what is at version 1 is left out."""

    @functools.cached_property
    def id(self) -> str:
        """The content id of the artifact, see `identity`: a hash of what is not at its default."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        if self.component is not None:
            kind, field = self.component
            content["params"] = _given_params(kind, getattr(self, field), json.dumps(content["params"]))
        return content_id({"stage": type(self).model_fields["stage"].default, **content})


def _modules(stage: str, *component_modules: str) -> tuple[str, ...]:
    return (f"spikedistill.stages.{stage}", *component_modules)


def _recipe_modules(train: TrainConfig | None) -> tuple[str, ...]:
    """Return the modules of the optimizer and the schedule of a recipe, if there is one."""
    choices = (train.optimizer, train.schedule) if train is not None else ()
    return tuple(components.module_of(choice.KIND, choice.name) for choice in choices)


@functools.lru_cache(maxsize=4096)
def _given_params(kind: components.Kind, name: str, params: str) -> dict[str, Any]:
    """Return the parameters of a component, given as JSON, that are not at their default."""
    return components.load(kind, name).Params.model_validate_json(params).model_dump(mode="json", exclude_defaults=True)


class PreprocessSpec(_Spec):
    """Prepare one dataset: decode, integrate, store."""

    folder: ClassVar[str] = "data"
    component: ClassVar[tuple[components.Kind, str] | None] = ("data.datasets", "dataset")
    stage: Literal["preprocess"] = "preprocess"
    dataset: str
    params: dict[str, Any]

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose code makes the artifact, with all that they import."""
        return _modules(self.stage, components.module_of("data.datasets", self.dataset))

    @property
    def ref(self) -> str:
        """Reference of the artifact that this stage makes."""
        return f"{self.folder}/{self.dataset}-{self.id}"

    @property
    def upstream(self) -> dict[str, str]:
        """References of the artifacts that this stage reads, by role."""
        return {}


class TeacherSpec(_Spec):
    """Train one ANN teacher, or import it."""

    folder: ClassVar[str] = "teachers"
    role: ClassVar[str] = "teacher"
    stage: Literal["teacher"] = "teacher"
    data: str
    dataset: str
    validation: float = 0.0
    train_samples: int = 0
    inputs: InputConfig
    arch: str
    network: dict[str, Any]
    weights: str | None = None
    """sha256 of the checkpoint that it is imported from; None: none."""
    own_inputs: NetworkInputs | None = None
    """What the network takes, if that differs from what the student sees."""
    classes: tuple[tuple[int, ...], ...] | None = None
    """Indices of the checkpoint's classes for each class of the dataset; None: its classes are those of the dataset."""
    train: TrainConfig | None
    """None: imported as it is."""
    seed: int

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose code makes the artifact, with all that they import."""
        return _modules(self.stage, components.architecture(self.arch).module, *_recipe_modules(self.train))

    @property
    def ref(self) -> str:
        """Reference of the artifact that this stage makes."""
        return f"{self.folder}/{self.dataset}-{self.arch.replace('/', '-')}-seed{self.seed}-{self.id}"

    @property
    def upstream(self) -> dict[str, str]:
        """References of the artifacts that this stage reads, by role."""
        return {"data": self.data}


class DistillSpec(_Spec):
    """Train one SNN student, or import it."""

    component: ClassVar[tuple[components.Kind, str] | None] = ("distill", "method")
    folder: ClassVar[str] = "students"
    role: ClassVar[str] = "student"
    stage: Literal["distill"] = "distill"
    data: str
    teacher: str | None
    dataset: str
    validation: float = 0.0
    train_samples: int = 0
    inputs: InputConfig
    arch: str
    network: dict[str, Any]
    time_steps: int
    neuron: NeuronConfig
    encoding: Encoding = "direct"
    backward: Backward
    scale_grad_by_steps: bool
    method: str
    params: dict[str, Any]
    weights: str | None = None
    """sha256 of the checkpoint that it is imported from; None: it is trained."""
    train: TrainConfig | None
    """None: imported."""
    seed: int

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose code makes the artifact, with all that they import."""
        return _modules(
            self.stage,
            components.architecture(self.arch).module,
            components.module_of("distill", self.method),
            components.module_of(self.neuron.KIND, self.neuron.name),
            *_recipe_modules(self.train),
        )

    @property
    def ref(self) -> str:
        """Reference of the artifact that this stage makes."""
        return f"{self.folder}/{self.dataset}-{self.arch.replace('/', '-')}-{self.method}-seed{self.seed}-{self.id}"

    @property
    def upstream(self) -> dict[str, str]:
        """References of the artifacts that this stage reads, by role."""
        return {"data": self.data} | ({"teacher": self.teacher} if self.teacher else {})


class EvaluateSpec(_Spec):
    """Measure one teacher or student on the test split."""

    folder: ClassVar[str] = "evaluations"
    stage: Literal["evaluate"] = "evaluate"
    data: str
    model: str
    teacher: str | None
    settings: EvaluateConfig

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose code makes the artifact, with all that they import; that of the networks is in their ids."""
        return _modules(self.stage)

    @property
    def ref(self) -> str:
        """Reference of the artifact that this stage makes."""
        network = self.model.partition("/")[2].rpartition("-")[0]
        return f"{self.folder}/{network_role(self.model)}-{network}-{self.id}"

    @property
    def upstream(self) -> dict[str, str]:
        """References of the artifacts that this stage reads, by role."""
        return {"data": self.data, "model": self.model} | ({"teacher": self.teacher} if self.teacher else {})


Spec = PreprocessSpec | TeacherSpec | DistillSpec | EvaluateSpec
NetworkSpec = TeacherSpec | DistillSpec
_SPEC: TypeAdapter[Spec] = TypeAdapter(Annotated[Spec, Field(discriminator="stage")])


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: of the stage; also of its Snakemake rule, of its module in `spikedistill.stages` and of its folder of logs.
        spec: what describes one run of it.
        cost: the model of `estimate` by which its cost is estimated.
    """

    name: str
    spec: type[Spec]
    cost: Literal["preprocessing", "training", "evaluation"]

    @property
    def folder(self) -> str:
        """Folder of the store in which its artifacts lie."""
        return self.spec.folder


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("preprocess", PreprocessSpec, "preprocessing"),
        Stage("teacher", TeacherSpec, "training"),
        Stage("distill", DistillSpec, "training"),
        Stage("evaluate", EvaluateSpec, "evaluation"),
    )
}
"""Every stage by name, upstream first."""

RULES = (*STAGES, "report")
"""Every Snakemake rule that runs as a job. The report is not a stage: it makes no artifact."""


def parse_spec(text: str) -> Spec:
    """Read a spec from its JSON.

    Raises:
        ConfigError: if it is not a spec, for instance one of another version.
    """
    try:
        return _SPEC.validate_json(text)
    except ValidationError as err:
        raise ConfigError(f"not a stage spec of this version of spikedistill: {err}") from err


def network_role(ref: str) -> str | None:
    """Return "teacher" or "student" for the reference of a trained network, None for that of any other artifact."""
    folder = ref.partition("/")[0]
    return next((spec.role for spec in get_args(NetworkSpec) if spec.folder == folder), None)


def check_code(spec: Spec) -> None:
    """Check that the code that makes an artifact is the one that its stage was planned with.

    Raises:
        StaleCodeError: naming what changed.
    """
    changes = code_changes(spec.code, code_of(spec.modules))
    if changes:
        raise StaleCodeError(
            f"{spec.ref}: code was changed after this stage was planned: {'; '.join(changes)}. Nothing was computed; plan and "
            "submit it again, under the id of the changed code, or restore the code"
        )
