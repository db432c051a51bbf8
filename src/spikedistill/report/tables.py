"""The comparison as tables with one row per experiment and method: mean ± standard deviation over seeds. Imports no torch."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate

from spikedistill.report.published import PublishedResult
from spikedistill.report.records import Comparison, Difference, Group, Spread, difference, group_records, measurements
from spikedistill.report.statistics import binomial_error

MISSING = "missing"
NOT_APPLICABLE = "-"
MEASURED = "measured"
NOTE = (
    "Accuracy: on the test split, of the mean of the logits over all T time steps; mean ± sample standard deviation over seeds. "
    "Against the baseline: mean difference over the seeds that both have, with the 95 % confidence interval of Student's t "
    "for two or more seeds. Firing rate: spikes per neuron and time step. Energy: per sample, of the arithmetic at the synapses "
    "only. The teacher is a non-spiking network. Reported rows are results that others published."
)


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
    """

    name: str
    header: str
    read: Callable[[dict[str, Any]], float | None]
    factor: float = 1.0
    digits: int = 2
    students_only: bool = False
    per_sample: bool = False


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
    Column("latency_ms", "latency (ms)", lambda m: m.get("timing", {}).get("latency_ms")),
    Column("throughput_samples_per_s", "throughput (samples/s)", lambda m: m.get("timing", {}).get("throughput"), digits=0),
)
MEASURES = tuple(dict.fromkeys((*RESULTS, *QUALITY, *EFFICIENCY)))


def _neurons(m: dict[str, Any], key: str) -> float | None:
    layers = m.get("firing_rate", {}).get("layers", [])
    neurons = sum(layer.get("neurons", 0) for layer in layers)
    return sum(layer[key] for layer in layers) / neurons if neurons else None


def robustness_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the accuracies on corrupted samples that any of the runs has, kind by kind in order of strength."""
    measured = (each for run in comparison.records if run.evaluation for each in run.evaluation.get("robustness", ()))
    strengths: dict[str, set[float]] = {}
    for each in measured:
        strengths.setdefault(each["kind"], set()).add(each["strength"])
    return tuple(_robustness(kind, strength) for kind in strengths for strength in sorted(strengths[kind]))


@functools.cache
def _robustness(kind: str, strength: float) -> Column:
    def read(m: dict[str, Any]) -> float | None:
        entries = m.get("robustness", ())
        return next((each["accuracy"] for each in entries if (each["kind"], each["strength"]) == (kind, strength)), None)

    name = f"{kind} {strength:g}"
    return Column(f"accuracy_{name.replace(' ', '_')}_percent", f"{name.replace('_', ' ')} (%)", read, 100)


@dataclass(frozen=True)
class TableRow:
    """One line of the comparison: the measurements of a method, or a published result.

    Attributes:
        experiment: label of the experiment.
        dataset: name of the dataset.
        method: label of the method; "teacher" for teachers.
        arch: name of the architecture.
        time_steps: time steps T; None for teachers.
        measured: mean and deviation by quantity, in the unit of evaluation.json; None where nothing was measured.
        difference: accuracy minus that of the baseline.
        is_teacher: True for the teachers of the experiment.
        is_baseline: True for the method that the others are compared with.
        num_seeds: number of runs that were measured.
        problems: for each run without an evaluation, why.
        published: the published result; None for a measured row.
    """

    experiment: str
    dataset: str
    method: str
    arch: str
    time_steps: int | None
    measured: dict[Column, Spread | None] = field(default_factory=dict)
    difference: Difference | None = None
    is_teacher: bool = False
    is_baseline: bool = False
    num_seeds: int = 0
    problems: tuple[str, ...] = ()
    published: PublishedResult | None = None

    def cell(self, column: Column) -> str:
        """Return a quantity as text."""
        if self.published is not None:
            return f"{self.published.accuracy:.2f}" if column is ACCURACY else NOT_APPLICABLE
        spread = self.measured.get(column)
        if spread is None:
            return MISSING if not self.num_seeds and not (self.is_teacher and column.students_only) else NOT_APPLICABLE
        return (spread * column.factor).format(column.digits)

    def names(self) -> list[str]:
        """Return experiment, method, architecture and T as text."""
        method = f"{self.method} (reported)" if self.published else self.method
        return [self.experiment, method, self.arch, NOT_APPLICABLE if self.time_steps is None else str(self.time_steps)]

    def against_baseline(self) -> str:
        """Return the difference to the baseline in percentage points, as text."""
        if self.is_baseline:
            return "baseline"
        return self.difference.format(100, 2) if self.difference else NOT_APPLICABLE

    def seeds(self) -> str:
        """Return the number of seeds that were measured and the number that are missing, as text."""
        if self.published:
            return NOT_APPLICABLE
        return str(self.num_seeds) + (f" ({len(self.problems)} missing)" if self.problems else "")


RESULT_HEADERS = (
    *("experiment", "method", "architecture", "T"),
    *(ACCURACY.header, "against baseline (points)"),
    *(column.header for column in RESULTS[1:]),
    "seeds",
)


def result_cells(row: TableRow) -> list[str]:
    """Return the cells of a row of the main table, under `RESULT_HEADERS`."""
    rest = [row.cell(column) for column in RESULTS[1:]]
    return [*row.names(), row.cell(ACCURACY), row.against_baseline(), *rest, row.seeds()]


def build_rows(comparison: Comparison) -> list[TableRow]:
    """Return the rows: per experiment its teacher, its methods in the order of the records, then the published results."""
    groups = group_records(comparison.records)
    columns = (*MEASURES, *robustness_columns(comparison))
    rows: list[TableRow] = []
    for experiment in dict.fromkeys(group.experiment for group in groups):
        own = [group for group in groups if group.experiment == experiment]
        baseline = next((group for group in own if group.is_baseline), None)
        rows += [_row(group, baseline, columns) for group in own]
        rows += [
            TableRow(experiment, each.dataset, each.method, each.arch, each.time_steps, published=each)
            for each in comparison.published.get(experiment, ())
        ]
    return rows


def _row(group: Group, baseline: Group | None, columns: Sequence[Column]) -> TableRow:
    first, measured = group.runs[0], measurements(group)
    values = {column: [v for m in measured if (v := column.read(m)) is not None] for column in columns}
    return TableRow(
        experiment=group.experiment,
        dataset=first.dataset,
        method=group.method,
        arch=first.arch,
        time_steps=first.time_steps,
        measured={column: Spread.of(each) for column, each in values.items()},
        difference=difference(group, baseline),
        is_teacher=group.is_teacher,
        is_baseline=group.is_baseline,
        num_seeds=len(measured),
        problems=tuple(f"seed {run.seed}: {run.problem or 'not evaluated'}" for run in group.runs if run.evaluation is None),
    )


def notes(rows: Sequence[TableRow]) -> list[str]:
    """Return the notes below the table: definitions, missing runs with the reason, sources of published results."""
    missing = [f"{row.experiment}, {row.method}: {problem}" for row in rows for problem in row.problems]
    sources = list(dict.fromkeys(f"{row.method}, reported: {row.published.source}" for row in rows if row.published))
    return [NOTE, *(f"Missing: {each}." for each in missing), *(f"{each}." for each in sources)]


def terminal_table(comparison: Comparison) -> str:
    """Return the comparison as a table for the terminal, followed by the missing runs."""
    rows = build_rows(comparison)
    missing = [f"missing: {row.experiment}, {row.method}, {problem}" for row in rows for problem in row.problems]
    return "\n".join([_tabulate(rows, "simple"), *missing])


def _tabulate(rows: Sequence[TableRow], style: str) -> str:
    align = ("left", "left", "left", *("right" for _ in RESULT_HEADERS[3:]))
    cells = [result_cells(row) for row in rows]
    return tabulate(cells, headers=RESULT_HEADERS, tablefmt=style, colalign=align if rows else None, disable_numparse=True)


def markdown_table(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    rows = build_rows(comparison)
    return "\n\n".join([_tabulate(rows, "github"), *notes(rows)]) + "\n"


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "µ": r"\textmu{}",
    }
)


def latex_table(comparison: Comparison) -> str:
    """Return the comparison as a LaTeX table, which needs the packages booktabs and textcomp."""
    rows = build_rows(comparison)
    lines = [
        "% Needs \\usepackage{booktabs,textcomp}.",
        *(f"% {note}" for note in notes(rows)),
        f"\\begin{{tabular}}{{lll{'r' * (len(RESULT_HEADERS) - 3)}}}",
        "\\toprule",
        " & ".join(header.translate(_LATEX) for header in RESULT_HEADERS) + r" \\",
        "\\midrule",
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.experiment != row.experiment:
            lines.append("\\midrule")
        lines.append(" & ".join(cell.translate(_LATEX) for cell in result_cells(row)) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


CSV_HEADERS = (
    *("experiment", "dataset", "method", "architecture", "time_steps", "source", "num_seeds", "num_missing"),
    *("difference_percent_mean", "difference_percent_low", "difference_percent_high", "difference_num_pairs"),
)


def csv_table(comparison: Comparison) -> str:
    """Return the comparison as CSV with plain numbers of every measured quantity; missing values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = (*MEASURES, *robustness_columns(comparison))
    writer.writerow([*CSV_HEADERS, *(f"{column.name}_{part}" for column in columns for part in ("mean", "std"))])
    writer.writerows(_csv_values(row, columns) for row in build_rows(comparison))
    return text.getvalue()


def _csv_values(row: TableRow, columns: Sequence[Column]) -> list[object]:
    source = f"reported: {row.published.source}" if row.published else MEASURED
    names: list[object] = [row.experiment, row.dataset, row.method, row.arch, _number(row.time_steps), source]
    counts: list[object] = ["", ""] if row.published else [row.num_seeds, len(row.problems)]
    paired = row.difference
    bounds = [paired.mean, paired.low, paired.high] if paired else [None] * 3
    values = [*names, *counts, *(_number(each, 100) for each in bounds), paired.num_pairs if paired else ""]
    for column in columns:
        spread = row.measured.get(column)
        if row.published and column is ACCURACY:
            values += [row.published.accuracy, ""]
        elif spread is None:
            values += ["", ""]
        else:
            values += [_number(spread.mean, column.factor), _number(spread.std, column.factor)]
    return values


def _number(value: float | None, factor: float = 1) -> object:
    return "" if value is None else round(value * factor, 6)
