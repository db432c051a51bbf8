"""Expand the sweeps of a configuration: one experiment or method for each combination of listed values. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spikedistill import components
from spikedistill.config.models import StudentConfig, TeacherConfig
from spikedistill.config.problems import Problems
from spikedistill.config.sweep import Path as KeyPath
from spikedistill.config.sweep import SweepError, Variant, replaced, swept, variants


def expand(values: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the configuration with an experiment or a method for each combination of listed values."""
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


def _expand_methods(experiment: Mapping[str, Any], key: list[str], problems: Problems) -> dict[str, Any]:
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
    problems: Problems,
    within: tuple[str, ...] = (),
) -> list[Variant]:
    """Return the variants of a section: a single one where nothing is swept, or where the sweep is invalid."""
    together = section.get("together") or []
    if not isinstance(together, list) or not all(isinstance(group, list) for group in together):
        return [Variant("", {})]  # the check of types says what is wrong
    try:
        return variants(lists, together)
    except SweepError as err:
        problems.add([*key, *(within if err.path != ("together",) else ()), *err.path], str(err))
        return [Variant("", {path: values[0] for path, values in lists.items() if values})]
