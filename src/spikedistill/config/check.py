"""Check a configuration and report every problem at once. Imports no torch.

A configuration is a mapping. It becomes a `Config` through `parse_config`, which expands lists into runs (`sweep`) and whose
`ConfigError` lists all problems, each with file, key, what is allowed and the likeliest word meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from spikedistill import components, plugins
from spikedistill.config.expand import expand
from spikedistill.config.models import LABEL, Config, DatasetConfig, ExperimentConfig, StudentConfig, TeacherConfig
from spikedistill.config.networks.imported import feature_problems, imported_problems, map_problems
from spikedistill.config.networks.multi_step import multi_step_misfits, multi_step_problems
from spikedistill.config.problems import Problems
from spikedistill.config.sweep import model_of
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.scan import filled_params
from spikedistill.errors import ConfigError, DataError
from spikedistill.evaluate.settings import CorruptionConfig
from spikedistill.train.settings import TrainConfig


def parse_config(values: Mapping[str, Any], source: str = "config.yaml") -> Config:
    """Check a configuration and return it typed, with one experiment or method for each variant of a sweep.

    Args:
        values: the merged mapping, as Snakemake or `read_config` gives it.
        source: what to call it in messages: the file or files it came from.

    Raises:
        ConfigError: listing every problem.
    """
    problems = Problems(source)
    activate_plugins(values, source)
    _check_labels(values, problems)
    values = expand(values, problems)
    config = None
    try:
        config = Config.model_validate(dict(values))
    except ValidationError as err:
        problems.add_validation(err, Config)
    unknown = [entry[0] for entry in _component_entries(values) if not _check_component(problems, *entry)]
    for key, arch in _architecture_entries(values):
        try:
            components.architecture(arch)
        except ConfigError as err:
            problems.add(key, str(err))
            unknown.append(key)
    for label, experiment in config.experiments.items() if config is not None else _whole_experiments(values):
        key = ["experiments", label]
        if not any(each[:2] == key for each in unknown):
            _check_combinations(experiment, key, problems)
    if config is not None and not unknown and config.evaluate.corruptions != CorruptionConfig():
        _check_corruptions(config, problems)
    problems.raise_if_any()
    assert config is not None
    return config


def activate_plugins(values: Mapping[str, Any], source: str) -> None:
    """Use the plug-ins of a configuration; without them, every name that they define would be reported as unknown.

    Raises:
        ConfigError: if one cannot be used.
    """
    names = values.get("plugins")
    try:
        plugins.activate([name for name in names if isinstance(name, str)] if isinstance(names, list) else [])
    except ConfigError as err:
        problems = Problems(source)
        problems.add(["plugins"], str(err))
        problems.raise_if_any()


def _whole_experiments(values: Mapping[str, Any]) -> Iterator[tuple[str, ExperimentConfig]]:
    """Yield the experiments in which every key is valid, so that their combinations are checked whatever else is wrong."""
    for label, experiment in _mappings(values, "experiments"):
        try:
            yield label, ExperimentConfig.model_validate(experiment)
        except ValidationError:
            continue


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
            if isinstance(method.get("train"), Mapping):
                yield from _choice_entries(method["train"], TrainConfig, ["experiments", label, "methods", method_label, "train"])
        for role, model in (("teacher", TeacherConfig), ("student", StudentConfig)):
            section = experiment.get(role)
            if isinstance(section, Mapping):
                yield from _choice_entries(section, model, ["experiments", label, role])


def _choice_entries(
    section: Mapping[str, Any], model: type[BaseModel], key: list[str]
) -> Iterator[tuple[list[str], components.Kind, str, Any]]:
    """Yield the components that are named in the subsections of a section."""
    for name, value in section.items():
        inner = model_of(field.annotation) if (field := model.model_fields.get(name)) else None
        if inner is None or not isinstance(value, Mapping):
            continue
        if issubclass(inner, components.Choice):
            chosen = value.get("name", inner.model_fields["name"].default)
            if isinstance(chosen, str):
                yield [*key, name], inner.KIND, chosen, value.get("params", {})
        yield from _choice_entries(value, inner, [*key, name])


def _architecture_entries(values: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    for label, experiment in _mappings(values, "experiments"):
        for role in ("teacher", "student"):
            section = experiment.get(role)
            if isinstance(section, Mapping) and isinstance(section.get("arch"), str):
                yield ["experiments", label, role, "arch"], section["arch"]


def _check_component(problems: Problems, key: list[str], kind: components.Kind, name: str, params: Any) -> bool:
    """Check the name and the parameters of a component; return True if both are valid."""
    try:
        model = components.load(kind, name).Params
    except ConfigError as err:
        problems.add(key, str(err))
        return False
    try:
        model.model_validate(params if params is not None else {})
    except ValidationError as err:
        problems.add_validation(err, model, [*key, "params"])
        return False
    return True


def _check_labels(values: Mapping[str, Any], problems: Problems) -> None:
    for label, experiment in _mappings(values, "experiments"):
        key = ["experiments", label]
        if not LABEL.fullmatch(label):
            problems.add(key, f"a label is up to 64 letters, digits, '.', '_' and '-' (it names files); found {label!r:.80}")
        for method, _ in _mappings(experiment, "methods"):
            if method == "teacher":
                problems.add([*key, "methods"], "the label 'teacher' is taken by the teacher's own row; choose another")
            if not LABEL.fullmatch(method):
                problems.add([*key, "methods"], f"a label is up to 64 letters, digits, '.', '_' and '-'; found {method!r:.80}")


def _check_combinations(experiment: ExperimentConfig, key: list[str], problems: Problems) -> None:
    """Check how the keys of an experiment fit together, given that each is valid by itself."""
    if not _changes_are_valid(experiment, key, problems):
        return
    for method_label, method in experiment.methods.items():
        component = components.load("distill", method.method or method_label)
        needs = component.needs(component.Params.model_validate(method.params))
        if method.weights is not None:
            continue
        if "teacher" in needs and experiment.teacher is None:
            problems.add([*key, "teacher"], f"method {method_label!r} distils from a teacher, and none is given")
        for problem in _misfits(component, needs, experiment, experiment.recipe_of(method_label)):
            problems.add([*key, "methods", method_label], problem)
    _check_recipes(experiment, key, problems)
    if experiment.dataset.validation >= 1 and experiment.dataset.validation % 1:
        found = experiment.dataset.validation
        problems.add([*key, "dataset", "validation"], f"a share below 1, or a whole number of samples; found {found}")
    _check_train_samples(experiment.dataset, key, problems)
    _check_baselines(experiment, [*key, "baseline"], problems)
    _check_data(experiment, key, problems)


def _check_train_samples(dataset: DatasetConfig, key: list[str], problems: Problems) -> None:
    published = getattr(components.load("data.datasets", dataset.name), "SPLIT_SAMPLES", None)
    if published is None:  # known when the folder has been read
        return
    held_out = dataset.validation * published[0] if dataset.validation < 1 else dataset.validation
    left = published[0] - round(held_out)
    if dataset.train_samples > left:
        reason = f"at most {left}: {dataset.name} has {published[0]} samples to train on, less those held out"
        problems.add([*key, "dataset", "train_samples"], f"{reason}; found {dataset.train_samples}")


def _check_baselines(experiment: ExperimentConfig, key: list[str], problems: Problems) -> None:
    for label in experiment.baselines:
        if label not in experiment.methods:
            problems.add(key, components.unknown("method", label, experiment.methods))
        if (times := experiment.baselines.count(label)) > 1:
            problems.add(key, f"each method may appear once; found {label!r} {times} times")


def _changes_are_valid(experiment: ExperimentConfig, key: list[str], problems: Problems) -> bool:
    """Check what methods change in the recipe of their students; return True if it can be used."""
    valid = True
    for label, method in experiment.methods.items():
        place = [*key, "methods", label, "train"]
        if method.train and (method.weights is not None or experiment.student.train is None):
            why = "the method has `weights`" if method.weights is not None else "there is no student.train to change"
            problems.add(place, f"{why}, so nothing is trained; delete the key")
            valid = False
            continue
        try:
            experiment.recipe_of(label)
        except ValidationError as err:
            problems.add_validation(err, TrainConfig, place)
            valid = False
    return valid


def _recipes(experiment: ExperimentConfig) -> Iterator[tuple[list[str], str, TrainConfig]]:
    """Yield the place, the architecture and the recipe of every network, including recipes that methods change."""
    networks: list[tuple[str, TeacherConfig | StudentConfig | None]]
    networks = [("teacher", experiment.teacher), ("student", experiment.student)]
    for role, network in networks:
        if network is not None and network.train is not None:
            yield [role, "train"], network.arch, network.train
    for label, method in experiment.methods.items():
        if method.train and (train := experiment.recipe_of(label)) is not None:
            yield ["methods", label, "train"], experiment.student.arch, train


def _check_recipes(experiment: ExperimentConfig, key: list[str], problems: Problems) -> None:
    for place, arch, train in _recipes(experiment):
        for name, reason in train.problems(arch, components.architecture(arch).entry):
            problems.add([*key, *place, name], reason)
        if train.select == "best" and not experiment.dataset.validation:
            reason = "best is chosen by the validation split; set dataset.validation, to 0.1 for instance, or select: last"
            problems.add([*key, *place, "select"], reason)


def _misfits(
    component: ModuleType, needs: frozenset[str], experiment: ExperimentConfig, train: TrainConfig | None
) -> Iterator[str]:
    """Yield the reasons why a method cannot work with the networks and the recipe of an experiment."""
    if train is not None and train.label_smoothing and not getattr(component, "SMOOTHS_LABELS", False):
        yield "takes no label smoothing, and student.train.label_smoothing is set; set it to 0, or use another method"
    if "steps" in needs and experiment.student.backward == "rate":
        yield (
            "needs the logits of every time step, and student.backward: rate has a gradient for their mean alone; "
            "set backward to bptt, or use a method that works on the mean, such as ce, esd, bkdsnn, kdsnn or kd with logits: mean"
        )
    if {"features", "teacher"} <= needs and experiment.teacher is not None:
        yield from feature_problems(experiment.teacher)
    if {"stages", "last_stage"} & needs and experiment.teacher is not None:
        yield from map_problems(experiment.teacher)
    yield from multi_step_misfits(needs, experiment.student)


def _check_data(experiment: ExperimentConfig, key: list[str], problems: Problems) -> None:
    meta = _described(experiment, key, problems)
    if meta is None:
        return
    if meta.num_classes < 2:
        problems.add(
            [*key, "dataset", "name"],
            f"{experiment.dataset.name!r} needs two classes or more to tell apart; found {meta.num_classes}",
        )
    if meta.num_frames is not None and meta.num_frames != experiment.student.time_steps:
        problems.add(
            [*key, "student", "time_steps"],
            f"must equal the number of event frames, {meta.num_frames} (dataset.params.num_frames); "
            f"found {experiment.student.time_steps}",
        )
    _check_inputs(experiment, key, meta, problems)
    for part, reason in experiment.student.problems(meta.kind):
        problems.add([*key, "student", *part], reason)
    if experiment.student.backward == "rate" and not components.architecture(experiment.student.arch).entry.get("rate", True):
        reason = f"{experiment.student.arch!r} trains through time only, as its entry has 'rate': False; set it to bptt"
        problems.add([*key, "student", "backward"], reason)
    for part, reason in (*imported_problems(experiment, meta), *multi_step_problems(experiment, meta)):
        problems.add([*key, *part], reason)


def _described(experiment: ExperimentConfig, key: list[str], problems: Problems) -> DatasetMeta | None:
    """Return the shape of a dataset, and check its folder; None if it is only known from the folder, which cannot be used."""
    dataset = experiment.dataset
    component = components.load("data.datasets", dataset.name)
    fault = None
    if component.NEEDS_RAW and dataset.root is None:
        fault = f"dataset {dataset.name!r} needs the folder of its files"
    if dataset.root is not None and (found := _fault_of_folder(dataset.root)):
        fault = f"{found}: {dataset.root}. Put or link the files there, or name another"
    if fault:
        problems.add([*key, "dataset", "root"], fault)
    try:
        return component.describe(filled_params(component, dataset.params, None if fault else dataset.root))
    except DataError as err:
        if not fault:
            problems.add([*key, "dataset"], str(err))
        return None


def _check_corruptions(config: Config, problems: Problems) -> None:
    metas = [_described(experiment, [], Problems("")) for experiment in config.experiments.values()]
    if None in metas:  # reported with the dataset
        return
    for name, reason in config.evaluate.corruptions.problems({meta.kind for meta in metas if meta is not None}):
        problems.add(["evaluate", "corruptions", name], reason)


def _fault_of_folder(name: str) -> str | None:
    """Return why a folder cannot be used, or None if it can."""
    try:
        return None if Path(name).expanduser().is_dir() else "no such folder"
    except (RuntimeError, ValueError) as err:  # a user that does not exist, a character that no path has
        return str(err)
    except OSError as err:
        return err.strerror or str(err)


def _check_inputs(experiment: ExperimentConfig, key: list[str], meta: DatasetMeta, problems: Problems) -> None:
    inputs = experiment.dataset.inputs
    for name, reason in inputs.problems(meta):
        problems.add([*key, "dataset", "inputs", name], reason)
    height, width = inputs.size(meta.height, meta.width)
    for role, network in (("teacher", experiment.teacher), ("student", experiment.student)):
        if network is None:
            continue
        least = components.architecture(network.arch).entry.get("min_side", 1)
        own = network.inputs.size if isinstance(network, TeacherConfig) else None
        if (own if isinstance(own, int) else min(height, width)) < least:
            problems.add(
                [*key, role, "arch"],
                f"{network.arch!r} halves its inputs until nothing is left of {height}x{width}; it needs {least}x{least} "
                "or more: choose another, such as resnet18, or enlarge them with dataset.inputs.resize",
            )
    for place, _, train in _recipes(experiment):
        for name, reason in train.augment.problems(meta, inputs):
            problems.add([*key, *place, "augment", name], reason)
