"""The measured quantities of a comparison: how each is read from evaluation.json and shown. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from spikedistill.report.statistics import binomial_error


@dataclass(frozen=True)
class Column:
    """One measured quantity: how it is read from evaluation.json and how it is shown.

    Attributes:
        name: name in the CSV file, unit included.
        header: name in tables for readers, unit included.
        read: gets the value from the content of evaluation.json; None if it was not measured.
        factor: multiplies the value into the unit shown.
        digits: number of decimals.
        students_only: True if teachers do not have it.
        per_sample: True if it is the cost of one sample.
        timed: True if it is a time, which depends on what else the machine did meanwhile.
    """

    name: str
    header: str
    read: Callable[[dict[str, Any]], float | None]
    factor: float = 1.0
    digits: int = 2
    students_only: bool = False
    per_sample: bool = False
    timed: bool = False


def _at_first_step(m: dict[str, Any]) -> float | None:
    return m["accuracy_at_step"][0] if m.get("accuracy_at_step") else None


def _firing_rate(m: dict[str, Any]) -> float | None:
    return m["firing_rate"]["mean"] if m.get("firing_rate") else None


def _operation(key: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda m: m.get("operations", {}).get(key)


ACCURACY = Column("accuracy_percent", "accuracy (%)", lambda m: m["accuracy"], 100)
FIRST_STEP = Column("accuracy_after_1_step_percent", "after 1 step (%)", _at_first_step, 100, students_only=True)
FIRING_RATE = Column("firing_rate", "firing rate", _firing_rate, digits=3, students_only=True)
ENERGY = Column("energy_uj", "energy (µJ)", _operation("energy_pj"), 1e-6, 3, per_sample=True)
SYNOPS = Column("synops_million", "SynOps (M)", _operation("synops"), 1e-6, 3, students_only=True, per_sample=True)
MACS = Column("macs_million", "MACs (M)", _operation("macs"), 1e-6, 3, per_sample=True)
ESTIMATE = Column(
    "energy_estimate_uj",
    "energy from rates (µJ)",
    lambda m: m.get("operations", {}).get("estimate", {}).get("energy_pj"),
    1e-6,
    3,
    per_sample=True,
)
RESULTS = (ACCURACY, FIRST_STEP, FIRING_RATE, ENERGY)
VALIDATION = Column("validation_accuracy_percent", "validation (%)", lambda m: m.get("validation", {}).get("accuracy"), 100)
QUALITY = (
    Column("top5_percent", "top-5 (%)", lambda m: m.get("top5"), 100),
    Column(
        "accuracy_test_set_error_points",
        "standard error from test samples (points)",
        lambda m: binomial_error(m["accuracy"], m["num_samples"]) if m.get("num_samples") else None,
        100,
    ),
    Column("nll_nats", "NLL (nats)", lambda m: m.get("nll"), digits=3),
    Column("ece_percent", "calibration error (%)", lambda m: m.get("ece"), 100),
    Column("teacher_agreement_percent", "agrees with teacher (%)", lambda m: m.get("teacher_agreement"), 100, students_only=True),
    Column("dead_neurons_percent", "dead neurons (%)", lambda m: _neurons(m, "dead"), 100, students_only=True),
    Column("saturated_neurons_percent", "saturated neurons (%)", lambda m: _neurons(m, "saturated"), 100, students_only=True),
    VALIDATION,
)
EFFICIENCY = (
    MACS,
    SYNOPS,
    ENERGY,
    ESTIMATE,
    Column("dense_operations_million", "dense operations (M)", _operation("dense"), 1e-6, 3, per_sample=True),
    Column("effective_macs_million", "effective MACs (M)", _operation("effective_macs"), 1e-6, 3, per_sample=True),
    Column("effective_acs_million", "effective ACs (M)", _operation("effective_acs"), 1e-6, 3, per_sample=True),
    Column(
        "membrane_updates_million",
        "membrane updates (M)",
        lambda m: m.get("membrane_updates"),
        1e-6,
        3,
        students_only=True,
        per_sample=True,
    ),
    Column("activation_sparsity", "activation sparsity", lambda m: m.get("activation_sparsity"), digits=3),
    Column("connection_sparsity", "connection sparsity", lambda m: m.get("connection_sparsity"), digits=3),
    Column("footprint_kib", "footprint (KiB)", lambda m: m.get("footprint"), 1 / 1024, 0),
    Column("latency_ms", "latency (ms)", lambda m: m.get("timing", {}).get("latency_ms"), timed=True),
    Column(
        "throughput_samples_per_s",
        "throughput (samples/s)",
        lambda m: m.get("timing", {}).get("throughput"),
        digits=0,
        timed=True,
    ),
)
MEASURES = tuple(dict.fromkeys((*RESULTS, *QUALITY, *EFFICIENCY)))


def _neurons(m: dict[str, Any], key: str) -> float | None:
    layers = m.get("firing_rate", {}).get("layers", [])
    neurons = sum(layer.get("neurons", 0) for layer in layers)
    return sum(layer[key] for layer in layers) / neurons if neurons else None


def robustness_columns(evaluations: Iterable[dict[str, Any]]) -> tuple[Column, ...]:
    """Return the accuracies on corrupted samples that any of some evaluations has, kind by kind in order of strength."""
    strengths: dict[str, set[float]] = {}
    for each in (entry for m in evaluations for entry in m.get("robustness", ())):
        strengths.setdefault(each["kind"], set()).add(each["strength"])
    return tuple(_robustness(kind, strength) for kind in strengths for strength in sorted(strengths[kind]))


@functools.cache
def _robustness(kind: str, strength: float) -> Column:
    def read(m: dict[str, Any]) -> float | None:
        entries = m.get("robustness", ())
        return next((each["accuracy"] for each in entries if (each["kind"], each["strength"]) == (kind, strength)), None)

    name = f"{kind} {strength:g}"
    return Column(f"accuracy_{name.replace(' ', '_')}_percent", f"{name.replace('_', ' ')} (%)", read, 100)
