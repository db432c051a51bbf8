"""Rank the runs of sweeps by accuracy on the validation split; the test split chooses nothing. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from spikedistill.report.records import RunRecord

HEADERS = ("sweep", "variant", "validation (%)", "seeds", "test accuracy (%)")
NOTE = (
    "Chosen by the mean accuracy on the validation split, which is held out from the training split; the accuracy on the test "
    "split is given for the chosen run only, once it is measured."
)
UNRANKED = "not ranked: no validation split; set dataset.validation, to 0.1 for instance"


@dataclass(frozen=True)
class Variant:
    """One combination of the values of a sweep, over its seeds.

    Attributes:
        experiment: label of the experiment, with the values of its swept keys.
        method: label of the method, likewise.
        validation: accuracy on the validation split of each seed, in [0, 1].
        test: accuracy on the test split of each seed, in [0, 1]; empty until all seeds are measured.
    """

    experiment: str
    method: str
    validation: tuple[float, ...]
    test: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy on the validation split, without what rounding adds to equal ones."""
        return round(statistics.fmean(self.validation), 10)

    @property
    def settings(self) -> dict[str, str]:
        """The value of each swept key; a key that experiment and method both have says whose it is."""
        own = {"experiment": _settings(self.experiment), "method": _settings(self.method)}
        both = own["experiment"].keys() & own["method"].keys()
        return {f"{role} {key}" if key in both else key: value for role, found in own.items() for key, value in found.items()}

    @property
    def values(self) -> str:
        """The values that distinguish it from the others, such as `lr=0.1, alpha=0.3`."""
        return ", ".join(f"{key}={value}" for key, value in self.settings.items()) or "as given"


def _settings(label: str) -> dict[str, str]:
    """Return the values in a label, such as `kd[alpha=0.3,lr=0.1]`, by key."""
    suffix = label.partition("[")[2].removesuffix("]")
    return {key: value for key, equals, value in (part.partition("=") for part in suffix.split(",")) if equals}


@dataclass(frozen=True)
class Sweep:
    """The variants of one sweep, the best by validation first; those of equal accuracy in the order of the configuration.

    Attributes:
        name: label of the experiment and the method, without values.
        ranked: variants with a validation accuracy.
        unranked: number of variants without one, because it was not held out or is not measured yet.
    """

    name: str
    ranked: tuple[Variant, ...]
    unranked: int


def rank_sweeps(records: Sequence[RunRecord]) -> list[Sweep]:
    """Return every sweep of a comparison: experiments and methods that differ only in the values of swept keys.

    A variant counts once all its seeds are trained; the test split need not be measured.
    """
    groups: dict[tuple[str, str], dict[tuple[str, str], list[RunRecord]]] = {}
    for run in records:
        if run.role == "student":
            base = (run.experiment.partition("[")[0], run.method.partition("[")[0])
            groups.setdefault(base, {}).setdefault((run.experiment, run.method), []).append(run)
    return [_sweep(" ".join(base), variants) for base, variants in groups.items() if len(variants) > 1]


def _sweep(name: str, groups: dict[tuple[str, str], list[RunRecord]]) -> Sweep:
    variants = []
    for (experiment, method), runs in groups.items():
        validation = tuple(run.validation for run in runs if run.validation is not None)
        if len(validation) == len(runs):
            test = tuple(run.evaluation["accuracy"] for run in runs if run.evaluation is not None)
            variants.append(Variant(experiment, method, validation, test if len(test) == len(runs) else ()))
    ranked = sorted(variants, key=lambda variant: -variant.mean)
    return Sweep(name, tuple(ranked), len(groups) - len(ranked))


def ranking_cells(sweeps: Sequence[Sweep]) -> list[list[str]]:
    """Return the cells of a table under `HEADERS`."""
    rows = []
    for sweep in sweeps:
        for at, variant in enumerate(sweep.ranked):
            test = _percent(variant.test) if at == 0 and variant.test else ""
            rows.append([sweep.name, variant.values, _percent(variant.validation), str(len(variant.validation)), test])
        if sweep.unranked:
            rows.append([sweep.name, f"{sweep.unranked} more", "", "", ""])
    return rows


def ranking_table(sweeps: Sequence[Sweep]) -> str:
    """Return the ranking for the terminal."""
    if not sweeps:
        return "no sweep in this configuration: give a list where one value belongs, such as lr: [0.05, 0.1]"
    lines = [tabulate(ranking_cells(sweeps), headers=HEADERS, tablefmt="simple", disable_numparse=True), "", NOTE]
    if any(not sweep.ranked for sweep in sweeps):
        lines.append(UNRANKED)
    return "\n".join(lines)


def _percent(accuracies: Sequence[float]) -> str:
    mean = f"{100 * statistics.fmean(accuracies):.2f}"
    return mean if len(accuracies) < 2 else f"{mean} ± {100 * statistics.stdev(accuracies):.2f}"
