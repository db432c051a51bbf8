"""The models of config.yaml, and the check that reports every mistake at once. Imports no torch.

A configuration is a mapping. It becomes a `Config` through `parse_config`, which expands lists into runs (sweep.py) and whose
`ConfigError` lists all problems, each with file, key, what is allowed and the likeliest word meant.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spikedistill import components
from spikedistill.data.inputs import InputConfig
from spikedistill.data.meta import DatasetMeta
from spikedistill.errors import ConfigError
from spikedistill.evaluate.settings import EvaluateConfig
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.sweep import Path as KeyPath
from spikedistill.sweep import SweepError, Variant, model_of, replaced, swept, takes_plain_values, variants
from spikedistill.train.options import EngineOptions
from spikedistill.train.settings import TrainConfig

LABEL = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetConfig(_Section):
    """Which data, and how it is prepared."""

    name: str = Field(description="Dataset: the stem of a file in src/spikedistill/data/datasets.")
    root: str | None = Field(
        None, description="Folder of the data as downloaded; never changed. Not needed by datasets that make their own."
    )
    params: dict[str, Any] = Field({}, description="Parameters of the dataset; see its `Params`.")
    inputs: InputConfig = Field(InputConfig(), description="What of a sample the networks see: crop, size, scale.")


class _NetworkConfig(_Section):
    arch: str = Field(description="Architecture: a name of an ARCHITECTURES table in src/spikedistill/models.")
    width: float = Field(
        1.0,
        gt=0,
        le=8,
        description="Channels of every layer, as a multiple of the architecture's; rounded, but no fewer than 16.",
    )


class TeacherConfig(_NetworkConfig):
    """The ANN whose knowledge is distilled. Experiments with an equal teacher share one."""

    seed: int = Field(0, ge=0, description="Seed of the teacher's initial weights, sample order and augmentation.")
    train: TrainConfig = Field(description="How the teacher is trained.")


class StudentConfig(_NetworkConfig):
    """The SNN that is trained."""

    time_steps: int = Field(ge=1, description="Time steps T per sample. With event frames: the number of frames.")
    neuron: NeuronConfig = Field(default_factory=NeuronConfig, description="The spiking neuron.")
    backward: Literal["bptt", "rate"] = Field(
        "bptt",
        description="How gradients are computed: through all time steps, or rate-based, whose memory does not grow with T.",
    )
    divide_by_steps: bool = Field(
        True, description="With backward: rate, divide the gradient by T, as the authors' code does; no effect otherwise."
    )
    train: TrainConfig = Field(description="How students are trained, whatever the method.")


class MethodConfig(_Section):
    """One row of the comparison: a method with its parameters."""

    method: str | None = Field(
        None, description="Method: the stem of a file in src/spikedistill/distill. Default: the label of this entry."
    )
    params: dict[str, Any] = Field({}, description="Parameters of the method; see its `Params`.")
    together: list[list[str]] = Field(
        [], description="Groups of parameters given as lists that are walked in step, as in [[alpha, beta]], not crossed."
    )


class ExperimentConfig(_Section):
    """One comparison: a dataset, a teacher, a student, and the methods that train the student."""

    dataset: DatasetConfig = Field(description="The data.")
    teacher: TeacherConfig | None = Field(None, description="The teacher. Needed by every method that distils from one.")
    student: StudentConfig = Field(description="The student.")
    methods: dict[str, MethodConfig] = Field(
        min_length=1, description="Methods to compare, by a label of your choice; each is trained once per seed."
    )
    baseline: str | None = Field(
        None,
        description="Label of the method that the report compares the others with, seed by seed. "
        "Default: the first that needs no teacher, else the first.",
    )
    together: list[list[str]] = Field(
        [],
        description="Groups of keys given as lists that are walked in step, as in "
        "[[dataset.params.num_frames, student.time_steps]], not crossed.",
    )


class Config(_Section):
    """The whole of config.yaml."""

    store: str = Field("store", description="Folder of the artifacts: data, teachers, students, evaluations. May be shared.")
    results: str = Field("results", description="Folder of the report and the TensorBoard logs.")
    engine: EngineOptions = Field(EngineOptions(), description="How training runs; changes no id.")
    seeds: list[int] = Field([0], min_length=1, description="One student per method and seed.")
    rehearse: bool = Field(
        False,
        description="Try the whole workflow first: networks of an eighth of their width, one epoch each. The data is prepared "
        "as for the real run; the report goes to `results` with -rehearsal at the end.",
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="How trained networks are measured.")
    experiments: dict[str, ExperimentConfig] = Field(min_length=1, description="Comparisons, by a label of your choice.")


class _Problems:
    """Collects problems as `file: key: message` lines."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: dict[tuple[str, str], None] = {}

    def add(self, key: Sequence[str | int], message: str) -> None:
        """Note a problem; the variants of a sweep share one line, under the key as it was written."""
        self._lines[".".join(str(part).partition("[")[0] for part in key) or "(top level)", message] = None

    def add_validation(self, error: ValidationError, model: type[BaseModel], prefix: Sequence[str | int] = ()) -> None:
        for detail in error.errors(include_url=False):
            self.add([*prefix, *detail["loc"]], _explain(detail, model))

    def raise_if_any(self) -> None:
        if self._lines:
            count = f"{len(self._lines)} problem{'s' if len(self._lines) > 1 else ''}"
            lines = "\n".join(f"  {self._source}: {key}: {message}" for key, message in sorted(self._lines))
            raise ConfigError(f"{count} in the configuration:\n{lines}")


def _explain(detail: Any, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        allowed = _fields_at(model, detail["loc"][:-1])
        return components.unknown("key", str(detail["loc"][-1]), allowed)
    message = detail["msg"][0].lower() + detail["msg"][1:]
    if detail["type"] == "missing":
        return "is required and not given"
    return f"{message}; found {detail['input']!r}"


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that are allowed at a place of the configuration."""
    current: Any = model
    for part in loc:
        section = model_of(current)
        if section:
            field = section.model_fields.get(str(part))
            current = None if field is None else field.annotation
        else:  # a mapping of labels or a list: every member is of the same kind
            current = next(reversed(get_args(current)), None)
    section = model_of(current)
    return list(section.model_fields) if section else []


def parse_config(values: Mapping[str, Any], source: str = "config.yaml") -> Config:
    """Check a configuration and return it typed, with one experiment or method for each variant of a sweep.

    Args:
        values: the merged mapping, as Snakemake or `read_config` gives it.
        source: what to call it in messages: the file or files it came from.

    Raises:
        ConfigError: listing every problem.
    """
    problems = _Problems(source)
    _check_labels(values, problems)
    values = _expand(values, problems)
    config = None
    try:
        config = Config.model_validate(dict(values))
    except ValidationError as err:
        problems.add_validation(err, Config)
    for key, kind, name, params in _component_entries(values):
        _check_component(problems, key, kind, name, params)
    for key, arch in _architecture_entries(values):
        if arch not in components.architectures():
            problems.add(key, components.unknown("architecture", arch, components.architectures()))
    problems.raise_if_any()
    assert config is not None
    _check_combinations(config, problems)
    problems.raise_if_any()
    return config


def _expand(values: Mapping[str, Any], problems: _Problems) -> dict[str, Any]:
    """The configuration with an experiment or a method for each combination of listed values."""
    expanded = dict(values)
    if not isinstance(values.get("experiments"), Mapping):
        return expanded
    experiments: dict[Any, Any] = {}
    for label, experiment in values["experiments"].items():
        if not isinstance(experiment, Mapping):
            experiments[label] = experiment
            continue
        key = ["experiments", str(label)]
        found = _variants(dict(_swept_of_experiment(experiment)), experiment, key, problems)
        methods = _expand_methods(experiment, key, problems)
        for variant in found:
            one = replaced(experiment, variant.values)
            experiments[f"{label}{variant.suffix}" if variant.suffix else label] = one | methods
    expanded["experiments"] = experiments
    return expanded


def _expand_methods(experiment: Mapping[str, Any], key: list[str], problems: _Problems) -> dict[str, Any]:
    if not isinstance(experiment.get("methods"), Mapping):
        return {}
    methods: dict[Any, Any] = {}
    for label, method in experiment["methods"].items():
        if not isinstance(method, Mapping):
            methods[label] = method
            continue
        name = method.get("method") or label
        lists = dict(_swept_params("distill", name, method.get("params"), ()))
        for variant in _variants(lists, method, [*key, "methods", str(label)], problems, within=("params",)):
            if variant.values:
                params = replaced(method["params"], variant.values)
                methods[f"{label}{variant.suffix}"] = {**method, "method": name, "params": params}
            else:
                methods[label] = method
    return {"methods": methods}


def _swept_of_experiment(experiment: Mapping[str, Any]) -> Iterator[tuple[KeyPath, list[Any]]]:
    for key, section in experiment.items():
        if key in ("teacher", "student") and isinstance(section, Mapping):
            yield from swept(section, TeacherConfig if key == "teacher" else StudentConfig, (key,))
        elif key == "dataset" and isinstance(section, Mapping):
            yield from _swept_params("data.datasets", section.get("name"), section.get("params"), ("dataset", "params"))


def _swept_params(kind: components.Kind, name: Any, params: Any, prefix: KeyPath) -> Iterator[tuple[KeyPath, list[Any]]]:
    if isinstance(name, str) and isinstance(params, Mapping) and components.canonical(name) in components.names(kind):
        yield from swept(params, components.load(kind, name).Params, prefix)


def _variants(
    lists: dict[KeyPath, list[Any]],
    section: Mapping[str, Any],
    key: list[str],
    problems: _Problems,
    within: tuple[str, ...] = (),
) -> list[Variant]:
    """The variants of a section; a single one where nothing is swept, or where the sweep is not valid."""
    together = section.get("together") or []
    if not isinstance(together, list) or not all(isinstance(group, list) for group in together):
        return [Variant("", {})]  # the check of types says what is wrong
    try:
        return variants(lists, together)
    except SweepError as err:
        problems.add([*key, *(within if err.path != ("together",) else ()), *err.path], str(err))
        return [Variant("", {path: values[0] for path, values in lists.items() if values})]


def _mappings(parent: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    children = parent.get(key) if isinstance(parent, Mapping) else None
    for label, child in children.items() if isinstance(children, Mapping) else ():
        yield str(label), child if isinstance(child, Mapping) else {}


def _component_entries(values: Mapping[str, Any]) -> Iterator[tuple[list[str], components.Kind, str, Any]]:
    for label, experiment in _mappings(values, "experiments"):
        dataset = experiment.get("dataset")
        if isinstance(dataset, Mapping) and isinstance(dataset.get("name"), str):
            yield ["experiments", label, "dataset"], "data.datasets", dataset["name"], dataset.get("params", {})
        for method_label, method in _mappings(experiment, "methods"):
            name = method.get("method") or method_label
            if isinstance(name, str):
                yield ["experiments", label, "methods", method_label], "distill", name, method.get("params", {})


def _architecture_entries(values: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    for label, experiment in _mappings(values, "experiments"):
        for role in ("teacher", "student"):
            section = experiment.get(role)
            if isinstance(section, Mapping) and isinstance(section.get("arch"), str):
                yield ["experiments", label, role, "arch"], section["arch"]


def _check_component(problems: _Problems, key: list[str], kind: components.Kind, name: str, params: Any) -> None:
    what = "dataset" if kind == "data.datasets" else "method"
    try:
        model = components.load(kind, name).Params
    except KeyError:
        problems.add(key, components.unknown(what, name, components.names(kind)))
        return
    try:
        model.model_validate(params if params is not None else {})
    except ValidationError as err:
        problems.add_validation(err, model, [*key, "params"])


def _check_labels(values: Mapping[str, Any], problems: _Problems) -> None:
    for label, experiment in _mappings(values, "experiments"):
        key = ["experiments", label]
        if not re.match(LABEL, label):
            problems.add(key, f"a label is letters, digits, '.', '_' and '-' (it names files); found {label!r}")
        for method, _ in _mappings(experiment, "methods"):
            if method == "teacher":
                problems.add([*key, "methods"], "the label 'teacher' is taken by the teacher's own row; choose another")
            if not re.match(LABEL, method):
                problems.add([*key, "methods"], f"a label is letters, digits, '.', '_' and '-'; found {method!r}")


def _check_combinations(config: Config, problems: _Problems) -> None:
    if len(set(config.seeds)) != len(config.seeds):
        problems.add(["seeds"], f"each seed may stand once; found {config.seeds}")
    for label, experiment in config.experiments.items():
        key = ["experiments", label]
        for method_label, method in experiment.methods.items():
            component = components.load("distill", method.method or method_label)
            needs = component.needs(component.Params.model_validate(method.params))
            if "teacher" in needs and experiment.teacher is None:
                problems.add([*key, "teacher"], f"method {method_label!r} distils from a teacher, and none is given")
            for problem in _misfits(needs, experiment):
                problems.add([*key, "methods", method_label], problem)
        if experiment.baseline is not None and experiment.baseline not in experiment.methods:
            problems.add([*key, "baseline"], components.unknown("method", experiment.baseline, experiment.methods))
        _check_data(experiment, key, problems)


def _misfits(needs: frozenset[str], experiment: ExperimentConfig) -> Iterator[str]:
    """Why a method cannot work with the networks of an experiment."""
    if "steps" in needs and experiment.student.backward == "rate":
        yield (
            "needs the logits of every time step, and student.backward: rate has a gradient for their mean alone; "
            "set backward to bptt, or use a method that works on the mean, such as ce, esd or kd with logits: mean"
        )
    if {"features", "teacher"} <= needs and experiment.teacher is not None:
        entry = components.architectures()[experiment.teacher.arch][1]
        if entry.get("hidden") or entry.get("pooled_size"):
            yield (
                f"needs a teacher that classifies by one linear layer on pooled features, and {experiment.teacher.arch!r} "
                "does not; choose another teacher.arch, such as resnet18 or resnet34"
            )


def _check_data(experiment: ExperimentConfig, key: list[str], problems: _Problems) -> None:
    dataset = experiment.dataset
    component = components.load("data.datasets", dataset.name)
    meta = component.describe(component.Params.model_validate(dataset.params))
    if meta.num_frames is not None and meta.num_frames != experiment.student.time_steps:
        problems.add(
            [*key, "student", "time_steps"],
            f"must equal the number of event frames, {meta.num_frames} (dataset.params.num_frames); "
            f"found {experiment.student.time_steps}",
        )
    if component.NEEDS_RAW and dataset.root is None:
        problems.add([*key, "dataset", "root"], f"dataset {dataset.name!r} needs the folder of its downloaded files")
    if dataset.root is not None and not Path(dataset.root).expanduser().is_dir():
        problems.add([*key, "dataset", "root"], f"no such folder: {dataset.root}. Put or link the files there, or name another")
    _check_inputs(experiment, key, meta, problems)


def _check_inputs(experiment: ExperimentConfig, key: list[str], meta: DatasetMeta, problems: _Problems) -> None:
    inputs = experiment.dataset.inputs
    for name, reason in inputs.problems(meta):
        problems.add([*key, "dataset", "inputs", name], reason)
    height, width = inputs.size(meta.height, meta.width)
    for role, network in (("teacher", experiment.teacher), ("student", experiment.student)):
        if network is None:
            continue
        least = components.architectures()[network.arch][1].get("min_side", 1)
        if min(height, width) < least:
            problems.add(
                [*key, role, "arch"],
                f"{network.arch!r} halves its inputs until nothing is left of {height}x{width}; it needs {least}x{least} "
                "or more: choose another, such as resnet18, or enlarge them with dataset.inputs.resize",
            )
        for name, reason in network.train.augment.problems(meta, inputs):
            problems.add([*key, role, "train", "augment", name], reason)


def read_config(files: Sequence[Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read and merge configuration files as Snakemake does: later files win, mappings are merged.

    Args:
        files: YAML files.
        overrides: `key=value` pairs with YAML values, applied last; a dot in the key goes one level down.

    Raises:
        ConfigError: if a file is missing or not a YAML mapping, or an override has no `=`.
    """
    merged: dict[str, Any] = {}
    for file in files:
        merge(merged, _read_yaml(file))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--config {override}: expected key=value")
        for part in reversed(key.split(".")):
            value = {part: yaml.safe_load(value) if isinstance(value, str) else value}  # type: ignore[assignment]
        merge(merged, value)  # type: ignore[arg-type]
    return merged


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(f"{file}: no such file; give one with --configfile") from err
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as err:
        raise ConfigError(f"{file}: cannot be read as YAML: {err}") from err
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected a mapping at the top level, found {type(values).__name__}")
    return values


def write_resolved(values: Mapping[str, Any], file: Path) -> None:
    """Keep a configuration as it is used, files and overrides merged, for `read_resolved`; atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    draft.replace(file)


def read_resolved(file: Path) -> Config:
    """The configuration that `write_resolved` kept, checked.

    Raises:
        ConfigError: if there is none, or it is not valid any more.
    """
    return parse_config(_read_yaml(file), source=str(file))  # JSON is YAML


def merge(target: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Merge `update` into `target` in place: mappings key by key, everything else replaced."""
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


def config_schema() -> dict[str, Any]:
    """The JSON schema of config.yaml for editors, with the parameters of every method and dataset."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "spikedistill config.yaml"
    definitions = schema["$defs"]
    _narrow_params(definitions, "DatasetConfig", "name", "data.datasets")
    _narrow_params(definitions, "MethodConfig", "method", "distill")
    for section, model in (("TeacherConfig", TeacherConfig), ("StudentConfig", StudentConfig)):
        definitions[section]["properties"]["arch"]["enum"] = sorted(components.architectures())
        _allow_sweeps(definitions, model, section)
    return schema


def _allow_sweeps(definitions: dict[str, Any], model: type[BaseModel], name: str) -> None:
    """Let every key that takes a plain value take a list of them, too."""
    properties = definitions[name]["properties"]
    for key, field in model.model_fields.items():
        section = model_of(field.annotation)
        if section:
            _allow_sweeps(definitions, section, section.__name__)
        elif takes_plain_values(field.annotation) and properties[key].get("anyOf", [{}])[-1].get("type") != "array":
            about = {k: v for k, v in properties[key].items() if k in ("default", "description", "title")}
            one = {k: v for k, v in properties[key].items() if k not in about}
            properties[key] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}], **about}


def _narrow_params(definitions: dict[str, Any], section: str, key: str, kind: components.Kind) -> None:
    conditions = []
    for name in components.names(kind):
        model = components.load(kind, name).Params
        params = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(params.pop("$defs", {}))
        definition = f"{kind.rpartition('.')[2]}.{name}"
        definitions[definition] = params
        if "properties" in params:
            _allow_sweeps(definitions, model, definition)
        when = {"properties": {key: {"const": name}}, "required": [key]}
        conditions.append({"if": when, "then": {"properties": {"params": {"$ref": f"#/$defs/{definition}"}}}})
    definitions[section]["allOf"] = conditions
    names = list(components.names(kind))
    target = definitions[section]["properties"][key]
    target.update({"enum": names} if "anyOf" not in target else {"anyOf": [{"enum": names}, {"type": "null"}]})
