"""Write the tables of docs/results.md from the report of the comparison on mnist-5k.

    python benchmarks/mnist5k_tables.py [--report results/benchmark-mnist5k]

With --report, `results.csv`, `tests.csv` and `costs.csv` of that report are first copied to benchmarks/results/mnist5k, and two
of its figures to docs/pictures.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

from spikedistill.config.generated import update_marked
from spikedistill.report.statistics import smallest_detectable

HERE = Path(__file__).resolve().parent
KEPT = HERE / "results" / "mnist5k"
PAGE = HERE.parent / "docs" / "results.md"
FILES = ("results.csv", "tests.csv", "costs.csv")
FIGURES = ("accuracy_over_sweep.svg", "accuracy_over_energy.svg")
REGIMES = {
    "steps[time_steps=1]": "images, T = 1",
    "steps[time_steps=2]": "images, T = 2",
    "labels[train_samples=600]": "600 labels, T = 2",
    "rate": "rate, T = 4",
    "events": "recordings, T = 2",
}
METHODS = ("teacher", "ce", "tet", "kd", "tdd", "sealkd", "ckdsnn", "esd")
TEACHER = "teacher"
MEASURED = "measured"
"""The first word of the markers in the page."""
Row = dict[str, str]


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the page by the names of their markers."""
    results = {(row["experiment"], row["method"]): row for row in _rows(folder / "results.csv")}
    tests = {(row["experiment"], row["method"], row["against"]): row for row in _rows(folder / "tests.csv")}
    found = {"accuracy": _overview(results), "costs of stages": _costs(_rows(folder / "costs.csv"))}
    for regime, title in REGIMES.items():
        students = [results[regime, name] for name in METHODS if (regime, name) in results and name != TEACHER]
        found[f"tests on {title}"] = _tests(students, tests)
        found[f"measures on {title}"] = _measures(students)
    return found | {"robustness": _robustness(results)}


def _rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _overview(results: dict[tuple[str, str], Row]) -> str:
    lines = []
    for name in METHODS:
        cells = [results.get((regime, name)) for regime in REGIMES]
        lines.append(
            [
                f"`{name}`" if name != TEACHER else name,
                *("-" if row is None else _spread(row, "accuracy_percent") for row in cells),
            ]
        )
    return _table(["method", *REGIMES.values()], lines)


def _tests(students: Sequence[Row], tests: dict[tuple[str, str, str], Row]) -> str:
    against = [name for name in ("ce", "tet") if any(key[0] == students[0]["experiment"] and key[2] == name for key in tests)]
    headers = ["method"]
    for name in against:
        headers += [f"to `{name}` (points)", "error: seeds, test digits", "p", "detectable"]
    lines = []
    for row in students:
        cells = []
        for name in against:
            test = tests.get((row["experiment"], row["method"], name))
            cells += ["", "", "", ""] if test is None else _test(test)
        if any(cells):
            lines.append([f"`{row['method']}`", *cells])
    return _table(headers, lines)


def _test(test: Row) -> list[str]:
    low, high = (float(test[f"difference_{end}_points"]) for end in ("low", "high"))
    p = float(test["p_both_errors_holm"])
    error = math.hypot(float(test["seed_error_points"]), float(test["test_set_error_points"]))
    detectable = smallest_detectable(error, int(test["num_pairs"]), int(test["num_tests"]))
    return [
        f"{float(test['difference_points']):+.2f} [{low:+.2f}, {high:+.2f}]",
        f"{float(test['seed_error_points']):.2f}, {float(test['test_set_error_points']):.2f}",
        f"**{p:.2g}**" if p < float(test["level"]) else f"{p:.2g}",
        f"{detectable:.2f}",
    ]


def _measures(students: Sequence[Row]) -> str:
    headers = [
        "method",
        "accuracy (%)",
        "after 1 step (%)",
        "calibration error (%)",
        "agrees with teacher (%)",
        "firing rate",
        "energy (µJ)",
    ]
    columns = (
        *(("accuracy_percent", 2), ("accuracy_after_1_step_percent", 2), ("ece_percent", 2)),
        *(("teacher_agreement_percent", 2), ("firing_rate", 3), ("energy_uj", 3)),
    )
    return _table(headers, [[f"`{row['method']}`", *(_spread(row, *column) for column in columns)] for row in students])


def _robustness(results: dict[tuple[str, str], Row]) -> str:
    some = next(iter(results.values()))
    kinds = [name.removesuffix("_mean") for name in some if name.endswith("_mean") and ("noise" in name or "drop_events" in name)]
    used = [(regime, kind) for regime in REGIMES for kind in kinds if results[regime, "ce"][f"{kind}_mean"]]
    lines = []
    for name in METHODS:
        cells = [results.get((regime, name)) for regime, _ in used]
        values = ["-" if row is None else _spread(row, kind) for row, (_, kind) in zip(cells, used, strict=True)]
        lines.append([f"`{name}`" if name != TEACHER else name, *values])
    shown = [kind.removeprefix("accuracy_").removesuffix("_percent").replace("_", " ") for _, kind in used]
    heads = [f"{REGIMES[regime]}: {kind}" for (regime, _), kind in zip(used, shown, strict=True)]
    return _table(["method", *heads], lines)


def _costs(costs: Sequence[Row]) -> str:
    number = Counter(row["stage"] for row in costs)
    seconds = {stage: sum(float(row["wall_s"] or 0) for row in costs if row["stage"] == stage) for stage in number}
    lines = [
        [stage, str(number[stage]), f"{seconds[stage] / 60:.0f}", f"{seconds[stage] / number[stage]:.1f}"] for stage in number
    ]
    return _table(["stage", "number", "core-minutes", "seconds each"], lines)


def _spread(row: Row, name: str, digits: int = 2) -> str:
    if not row[f"{name}_mean"]:
        return "-"
    mean, std = float(row[f"{name}_mean"]), row[f"{name}_std"]
    return f"{mean:.{digits}f} ± {float(std):.{digits}f}" if std else f"{mean:.{digits}f}"


def _table(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    align = ("left", *("right",) * (len(headers) - 1))
    return tabulate(list(lines), headers=headers, tablefmt="github", colalign=align, disable_numparse=True)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="folder of the report")
    report = parser.parse_args().report
    if report is not None:
        KEPT.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(report / name, KEPT / name)
        for name in FIGURES:
            shutil.copyfile(report / name, PAGE.parent / "pictures" / f"mnist5k_{name}")
    PAGE.write_text(update_marked(PAGE.read_text(encoding="utf-8"), tables(KEPT), MEASURED), encoding="utf-8")


if __name__ == "__main__":
    main()
