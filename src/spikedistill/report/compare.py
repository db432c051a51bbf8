"""Networks side by side in the terminal: the differences of their specs, and their measurements. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from spikedistill.errors import ArtifactError
from spikedistill.evaluate.settings import EVALUATION
from spikedistill.plan.stages import EvaluateSpec, network_role
from spikedistill.report.tables.columns import MEASURES, robustness_columns
from spikedistill.store.artifacts import Store

ABSENT = "-"
ALWAYS = ("dataset", "arch", "method", "time_steps", "seed")


def compare(store: Store, names: Sequence[str]) -> str:
    """Return a table with one column per network.

    Args:
        store: the store that holds them.
        names: names of teachers, students or their evaluations, unambiguous prefixes of names, or patterns.

    Raises:
        ArtifactError: if a name matches no artifact, several, or one that is not a network.
    """
    refs = list(dict.fromkeys(_network(store, ref) for ref in store.select(names)))
    manifests = [store.manifest(ref) for ref in refs]
    evaluations = [newest_evaluation(store, ref) for ref in refs]
    specs = [dict(flatten(manifest["spec"])) for manifest in manifests]
    sections = [
        _rows(_spec_keys(specs), specs),
        _measured(evaluations),
        _rows(("created", "wall_s", "gpu_hours", "device"), manifests),
    ]
    headers = ["", *(Path(ref).name for ref in refs)]
    rows = [row for section in sections for row in [*section, [""] * len(headers)]]
    return tabulate(rows[:-1], headers=headers, tablefmt="simple", disable_numparse=True)


def _network(store: Store, ref: str) -> str:
    """Return the reference of the network that an artifact is, or is the evaluation of."""
    spec = store.manifest(ref)["spec"]
    ref = spec.get("model", ref)
    if network_role(ref) is None:
        raise ArtifactError(f"{ref} is neither a teacher nor a student; compare takes networks and their evaluations")
    return ref


def newest_evaluation(store: Store, ref: str) -> dict[str, Any] | None:
    """Return the content of the newest evaluation of a network; None if it has not been evaluated."""
    made = store.made_from(ref, EvaluateSpec.folder)
    found = [each for each, manifest in made.items() if manifest["spec"]["model"] == ref]
    return json.loads((store.open(found[-1]) / EVALUATION).read_text(encoding="utf-8")) if found else None


def flatten(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested mapping by dotted key."""
    for key, value in spec.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _spec_keys(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the spec keys to show: identifying keys first, then those whose values differ."""
    keys = dict.fromkeys(key for spec in specs for key in spec)
    differing = [key for key in keys if len({json.dumps(spec.get(key)) for spec in specs}) > 1]
    return list(dict.fromkeys([*(key for key in ALWAYS if key in keys), *differing]))


def _rows(keys: Sequence[str], sources: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [[key, *(ABSENT if source.get(key) is None else str(source[key]) for source in sources)] for key in keys]


def _measured(evaluations: Sequence[dict[str, Any] | None]) -> list[list[str]]:
    """Return a row for each quantity that was measured on any of the networks."""
    rows = []
    for column in (*MEASURES, *robustness_columns(m for m in evaluations if m is not None)):
        values = [None if m is None else column.read(m) for m in evaluations]
        if any(value is not None for value in values):
            shown = (ABSENT if value is None else f"{value * column.factor:.{column.digits}f}" for value in values)
            rows.append([column.header, *shown])
    models = [{} if m is None else m.get("energy_model", {}) for m in evaluations]
    if len({json.dumps(model, sort_keys=True) for model in models if model}) > 1:
        rows += _rows([*dict.fromkeys(key for model in models for key in model)], models)
    return rows or [["measured", *(ABSENT for _ in evaluations)]]
