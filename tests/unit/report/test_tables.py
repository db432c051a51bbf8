from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest

from spikedistill.report.records import Comparison, Difference, Spread
from spikedistill.report.tables import (
    RESULT_HEADERS,
    build_rows,
    csv_table,
    latex_table,
    markdown_table,
    result_cells,
    terminal_table,
)


def cells_of(comparison):
    return {(row.experiment, row.method, bool(row.published)): result_cells(row) for row in build_rows(comparison)}


def test_deviation_is_that_of_a_sample():
    spread = Spread.of([0.90, 0.94])
    assert spread.mean == pytest.approx(0.92)
    assert spread.std == pytest.approx(0.0282842712)  # sqrt(2 * 0.02**2 / (2 - 1))


def test_single_seed_has_no_deviation_and_no_seed_no_spread():
    assert Spread.of([0.5]) == Spread(0.5, None)
    assert Spread.of([]) is None


def test_difference_is_paired_by_seed_with_the_interval_of_students_t():
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3); t of 0.975 with 2 degrees of freedom is 4.302653.
    difference = Difference.of({0: 3.0, 1: 5.0, 2: 7.0, 9: 100.0}, {2: 4.0, 1: 3.0, 0: 2.0, 8: 100.0})
    assert (difference.mean, difference.num_pairs) == (2.0, 3)
    assert difference.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-6)
    assert difference.high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-6)
    assert difference.format(1, 2) == "+2.00 [-0.48, +4.48]"


def test_single_pair_has_no_interval_and_no_common_seed_no_difference():
    assert Difference.of({0: 0.9}, {0: 0.8}).format(100, 1) == "+10.0"
    assert Difference.of({0: 0.9}, {1: 0.8}) is None


def test_rows_are_teacher_methods_then_published_results(compared):
    assert [(row.experiment, row.method, bool(row.published)) for row in build_rows(compared)] == [
        ("digits", "teacher", False),
        ("digits", "tet", False),
        ("digits", "kd", False),
        ("digits", "kd", True),
        ("digits-dvs", "tet", False),
    ]


def test_cells_hold_percent_mean_deviation_difference_energy_and_seeds(compared):
    cells = cells_of(compared)
    assert cells["digits", "teacher", False] == ["digits", "teacher", "resnet18", "-", "98.00", "-", "-", "-", "23.000", "1"]
    measured = ["92.00 ± 2.83", "baseline", "67.00 ± 2.83", "0.125 ± 0.000", "1.500 ± 0.000", "2"]
    assert cells["digits", "tet", False] == ["digits", "tet", "resnet_small", "2", *measured]
    assert cells["digits-dvs", "tet", False][4:] == ["88.00", "baseline", "63.00", "0.300", "1.500", "1"]


def test_missing_run_is_counted_in_its_row_and_compared_on_the_common_seeds(compared):
    assert cells_of(compared)["digits", "kd", False][4:] == ["96.00", "+6.00", "71.00", "0.100", "1.500", "1 (1 missing)"]


def test_published_row_is_marked_and_holds_only_its_accuracy(compared):
    cells = cells_of(compared)["digits", "kd", True]
    assert cells == ["digits", "kd (reported)", "ResNet-19", "4", "97.50", "-", "-", "-", "-", "-"]
    assert "kd, reported: unconfirmed: notes." in markdown_table(compared)


def test_method_without_any_run_keeps_a_row_that_says_missing_and_why(make):
    comparison = make.comparison([make.teacher(0.9), make.missing_student("kd", 0), make.missing_student("kd", 1)])
    row = build_rows(comparison)[1]
    assert result_cells(row) == [
        "digits",
        "kd",
        "resnet_small",
        "2",
        "missing",
        "-",
        "missing",
        "missing",
        "missing",
        "0 (2 missing)",
    ]
    for table in (markdown_table(comparison), terminal_table(comparison), latex_table(comparison)):
        assert "digits, kd" in table
        assert "seed 1: distill x failed: no memory" in table


def test_csv_holds_plain_numbers_of_every_quantity(compared):
    rows = list(csv.DictReader(io.StringIO(csv_table(compared))))
    teacher, tet, kd, reported, _ = rows
    assert float(tet["accuracy_percent_mean"]) == pytest.approx(92.0)
    assert float(tet["accuracy_percent_std"]) == pytest.approx(2.828427)
    assert float(tet["synops_million_mean"]) == pytest.approx(3.0)
    assert (tet["source"], reported["source"]) == ("measured", "reported: unconfirmed: notes")
    assert (teacher["time_steps"], teacher["firing_rate_mean"], teacher["accuracy_percent_std"]) == ("", "", "")
    assert (kd["num_seeds"], kd["num_missing"], kd["difference_percent_mean"], kd["difference_percent_low"]) == (
        "1",
        "1",
        "6.0",
        "",
    )
    assert (reported["accuracy_percent_mean"], reported["energy_uj_mean"], reported["num_seeds"]) == ("97.5", "", "")


def test_csv_has_a_column_for_each_corruption_that_any_run_has(make):
    runs = [make.student("tet", 0, 0.9), make.student("tet", 1, 0.9), make.student("kd", 0, 0.9)]
    for run, accuracy in zip(runs, (0.5, 0.7), strict=False):  # kd was evaluated without
        run.evaluation["robustness"] = [
            {"kind": "drop_events", "strength": 0.5, "accuracy": accuracy, "nll": 1.0, "ece": 0.1},
            {"kind": "drop_events", "strength": 0.25, "accuracy": accuracy + 0.1, "nll": 1.0, "ece": 0.1},
        ]
    tet, kd = csv.DictReader(io.StringIO(csv_table(make.comparison(runs))))
    assert [name for name in tet if "drop" in name] == [
        f"accuracy_drop_events_{strength}_percent_{part}" for strength in (0.25, 0.5) for part in ("mean", "std")
    ]
    assert float(tet["accuracy_drop_events_0.5_percent_mean"]) == pytest.approx(60.0)
    assert float(tet["accuracy_drop_events_0.25_percent_std"]) == pytest.approx(14.142136)
    assert kd["accuracy_drop_events_0.5_percent_mean"] == ""


def test_the_error_from_the_finite_test_set_is_given_apart_from_the_deviation_over_seeds(make):
    runs = [make.student("tet", seed, accuracy) for seed, accuracy in enumerate((0.9, 0.9, 0.5))]
    for run in runs[:2]:
        run.evaluation["num_samples"] = 900
    (row,) = csv.DictReader(io.StringIO(csv_table(make.comparison(runs))))
    assert row["accuracy_test_set_error_points_mean"] == "1.0"  # sqrt(0.9 * 0.1 / 900), where the number is known
    assert row["accuracy_percent_std"] == "23.094011"


def test_markdown_is_a_table_with_every_row(compared):
    lines = [line for line in markdown_table(compared).splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(RESULT_HEADERS)
    assert len(lines) == 2 + 5
    assert "92.00 ± 2.83" in lines[3]


def test_latex_is_a_tabular_with_special_characters_escaped(make):
    text = latex_table(make.comparison([make.student("a_b&c", 0, 0.5), make.student("a_b&c", 1, 0.7)]))
    assert r"a\_b\&c" in text
    assert r"60.00 $\pm$ 14.14" in text
    assert r"accuracy (\%)" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert body.count("&") - body.count(r"\&") == len(RESULT_HEADERS) - 1


def test_terminal_table_shows_headers_and_numbers(compared):
    text = terminal_table(compared)
    assert text.splitlines()[0].split()[:4] == ["experiment", "method", "architecture", "T"]
    assert "92.00 ± 2.83" in text


def test_tables_of_no_runs_are_headers_only():
    assert terminal_table(Comparison([])).split()[0] == "experiment"
    assert csv_table(Comparison([])).count("\n") == 1


def test_report_imports_no_torch():
    code = "import sys, spikedistill.report.writer, spikedistill.report.collect; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
