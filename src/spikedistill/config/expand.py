"""Expand the sweeps of a configuration: one experiment or method for each combination of listed values. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spikedistill.config.models import MAX_RUNS, SWEPT_OF_DATASET, DatasetConfig, StudentConfig, TeacherConfig
from spikedistill.config.problems import Problems
from spikedistill.config.sweep import Path as KeyPath
from spikedistill.config.sweep import SweepError, Variant, count, replaced, swept, swept_params, variants


def expand(values: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the configuration with an experiment or a method for each combination of listed values."""
    expanded = dict(values)
    if not isinstance(values.get("experiments"), Mapping):
        return expanded
    _check_size(values, problems)
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


def _check_size(values: Mapping[str, Any], problems: Problems) -> None:
    """Refuse a configuration of too many runs before any of them is written out."""
    seeds = values.get("seeds")
    num_seeds = len(seeds) if isinstance(seeds, list) else 1
    sizes = {}
    for label, experiment in values["experiments"].items():
        if isinstance(experiment, Mapping):
            methods = experiment.get("methods")
            entries = methods.items() if isinstance(methods, Mapping) else ()
            of_methods = sum(count(_swept_of_method(name, method), _groups_of(method)) for name, method in entries)
            of_experiment = count(dict(_swept_of_experiment(experiment)), _groups_of(experiment))
            sizes[str(label)] = of_experiment * max(1, of_methods) * num_seeds
    if sum(sizes.values()) > MAX_RUNS:
        largest = max(sizes, key=lambda label: sizes[label])
        problems.add(
            ["experiments", largest],
            f"the configuration makes {sum(sizes.values())} runs, more than {MAX_RUNS}; {sizes[largest]} of them here. "
            "Shorten the lists, walk some in step with `together`, or use several configurations",
        )
        problems.raise_if_any()


def _groups_of(section: Any) -> list[list[str]]:
    """Return the `together` of a section, if it is of the right type; the check of types says so otherwise."""
    groups = section.get("together") if isinstance(section, Mapping) else None
    if not isinstance(groups, list):
        return []
    return [group for group in groups if isinstance(group, list) and all(isinstance(name, str) for name in group)]


def _swept_of_method(label: Any, method: Any) -> dict[KeyPath, list[Any]]:
    if not isinstance(method, Mapping):
        return {}
    return dict(swept_params("distill", method.get("method") or label, method.get("params"), ()))


def _expand_methods(experiment: Mapping[str, Any], key: list[str], problems: Problems) -> dict[str, Any]:
    if not isinstance(experiment.get("methods"), Mapping):
        return {}
    methods: dict[Any, Any] = {}
    for label, method in experiment["methods"].items():
        if not isinstance(method, Mapping):
            methods[label] = method
            continue
        name = method.get("method") or label
        lists = _swept_of_method(label, method)
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
            yield from swept({name: section[name] for name in SWEPT_OF_DATASET & section.keys()}, DatasetConfig, ("dataset",))
            yield from swept_params("data.datasets", section.get("name"), section.get("params"), ("dataset", "params"))


def _variants(
    lists: dict[KeyPath, list[Any]],
    section: Mapping[str, Any],
    key: list[str],
    problems: Problems,
    within: tuple[str, ...] = (),
) -> list[Variant]:
    """Return the variants of a section: a single one where nothing is swept, or where the sweep is invalid."""
    try:
        return variants(lists, _groups_of(section))
    except SweepError as err:
        problems.add([*key, *(within if err.path != ("together",) else ()), *err.path], str(err))
        return [Variant("", {path: values[0] for path, values in lists.items() if values})]
