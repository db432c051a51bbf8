from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import replace

import pytest

from spikedistill.report.findings import Findings
from spikedistill.report.paper.table import latex_tables
from spikedistill.report.records import Comparison, Difference, Spread
from spikedistill.report.tables.csv_file import csv_table
from spikedistill.report.tables.notes import interval_notes, time_notes
from spikedistill.report.tables.plain import markdown_table, terminal_table
from spikedistill.report.tables.rows import RESULT_HEADERS, result_cells


def rows_of(comparison):
    return Findings.of(comparison).rows


def cells_of(comparison):
    return {(row.experiment, row.method, bool(row.published)): result_cells(row) for row in rows_of(comparison)}


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
    assert [(row.experiment, row.method, bool(row.published)) for row in rows_of(compared)] == [
        ("digits", "teacher", False),
        ("digits", "tet", False),
        ("digits", "kd", False),
        ("digits", "kd", True),
        ("digits-dvs", "tet", False),
    ]


def test_cells_hold_percent_mean_deviation_difference_energy_and_seeds(compared):
    cells = cells_of(compared)
    assert cells["digits", "teacher", False] == ["digits", "teacher", "resnet18", "-", "98.00", "-", "-", "-", "-", "23.000", "1"]
    measured = ["92.00 ± 2.83", "baseline", "-", "67.00 ± 2.83", "0.125 ± 0.000", "1.500 ± 0.000", "2"]
    assert cells["digits", "tet", False] == ["digits", "tet", "resnet_small", "2", *measured]
    assert cells["digits-dvs", "tet", False][4:] == ["88.00", "baseline", "-", "63.00", "0.300", "1.500", "1"]


def test_missing_run_is_counted_in_its_row_and_compared_on_the_common_seeds(compared):
    assert cells_of(compared)["digits", "kd", False][4:] == ["96.00", "+6.00", "-", "71.00", "0.100", "1.500", "1 (1 missing)"]


def test_published_row_is_marked_and_holds_only_its_accuracy(compared):
    cells = cells_of(compared)["digits", "kd", True]
    assert cells == ["digits", "kd (reported)", "ResNet-19", "4", "97.50", "-", "-", "-", "-", "-", "-"]
    assert "kd, reported: unconfirmed: notes." in markdown_table(rows_of(compared))


def test_method_without_any_run_keeps_a_row_that_says_missing_and_why(make):
    comparison = make.comparison([make.teacher(0.9), make.missing_student("kd", 0), make.missing_student("kd", 1)])
    row = rows_of(comparison)[1]
    assert result_cells(row) == [
        "digits",
        "kd",
        "resnet_small",
        "2",
        "missing",
        "-",
        "-",
        "missing",
        "missing",
        "missing",
        "0 (2 missing)",
    ]
    for table in (markdown_table(rows_of(comparison)), terminal_table(rows_of(comparison)), latex_tables(rows_of(comparison), 0)):
        assert "digits, kd" in table
        assert "seed 1: distill x failed: no memory" in table


def test_csv_holds_plain_numbers_of_every_quantity(compared):
    rows = list(csv.DictReader(io.StringIO(csv_table(rows_of(compared)))))
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
    tet, kd = csv.DictReader(io.StringIO(csv_table(rows_of(make.comparison(runs)))))
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
    (row,) = csv.DictReader(io.StringIO(csv_table(rows_of(make.comparison(runs)))))
    assert row["accuracy_test_set_error_points_mean"] == "1.0"  # sqrt(0.9 * 0.1 / 900), where the number is known
    assert row["accuracy_percent_std"] == "23.094011"


def test_markdown_is_a_table_with_every_row(compared):
    lines = [line for line in markdown_table(rows_of(compared)).splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(RESULT_HEADERS)
    assert len(lines) == 2 + 5
    assert "92.00 ± 2.83" in lines[3]


def test_the_corrected_p_value_stands_beside_the_interval(make):
    runs = [
        make.student(m, seed, a + 0.001 * seed * k) for k, (m, a) in enumerate((("tet", 0.5), ("kd", 0.7))) for seed in range(3)
    ]
    findings = Findings.of(make.comparison(runs, baselines={"digits": ("tet",)}))
    (tested,) = findings.tests
    _, kd = findings.rows
    assert kd.test is tested
    at = RESULT_HEADERS.index("p (Holm)")
    assert RESULT_HEADERS[at - 1] == "against baseline (points)"
    assert float(result_cells(kd)[at]) == pytest.approx(tested.p_holm, rel=0.05)


@pytest.mark.parametrize(
    ("teachers", "told", "not_told"),
    [
        (["a", "a"], "All seeds have the same teacher", "of its own"),
        (["a", "b"], "Each seed has a teacher of its own", "same teacher"),
        ([None, None], "not corrected for their number", "teacher:"),
    ],
)
def test_the_note_on_intervals_says_which_teachers_they_cover(make, teachers, told, not_told):
    runs = [make.student(method, seed, 0.5 + 0.1 * seed) for method in ("tet", "kd") for seed in range(2)]
    known = [{f"teachers/{name}": {}, f"students/{seed}": {}} if name else {} for seed, name in enumerate(teachers)]
    runs = [replace(run, sources=known[run.seed]) for run in runs]
    (note,) = interval_notes(rows_of(make.comparison(runs)))
    assert told in note
    assert not_told not in note


def test_the_note_on_intervals_names_experiments_where_they_differ(make):
    runs = [
        replace(make.student(method, seed, 0.5, experiment=experiment), sources={f"teachers/{name or seed}": {}})
        for experiment, name in (("shared", "a"), ("own", None))
        for method in ("tet", "kd")
        for seed in range(2)
    ]
    (note,) = interval_notes(rows_of(make.comparison(runs)))
    assert "shared: all seeds have the same teacher" in note
    assert "own: each seed has a teacher of its own" in note


def test_without_a_comparison_there_is_no_note_on_intervals(make):
    assert interval_notes(rows_of(make.comparison([make.student("tet", 0, 0.5)]))) == []


@pytest.mark.parametrize(("alone", "cell", "count"), [(True, "3.00", "1"), (False, "3.00 ‡", "0"), (None, "3.00 ‡", "0")])
def test_a_latency_is_marked_unless_it_was_measured_alone(make, alone, cell, count):
    run = make.student("tet", 0, 0.5)
    run.evaluation["timing"] = {"latency_ms": 3.0, "throughput": 9.0}
    rows = rows_of(make.comparison([replace(run, timed_alone=alone)]))
    (latency,) = (column for column in rows[0].measured if column.name == "latency_ms")
    assert rows[0].cell(latency) == cell
    assert bool(time_notes(rows)) is (alone is not True)
    (values,) = csv.DictReader(io.StringIO(csv_table(rows)))
    assert (values["latency_ms_mean"], values["num_timed_alone"]) == ("3.0", count)


def test_terminal_table_shows_headers_and_numbers(compared):
    text = terminal_table(rows_of(compared))
    assert text.splitlines()[0].split()[:4] == ["experiment", "method", "architecture", "T"]
    assert "92.00 ± 2.83" in text


def test_tables_of_no_runs_are_headers_only():
    assert terminal_table(rows_of(Comparison([]))).split()[0] == "experiment"
    assert csv_table(rows_of(Comparison([]))).count("\n") == 1


def test_report_imports_no_torch():
    code = "import sys, spikedistill.report.writer, spikedistill.report.collect; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
