"""Which methods of a report are tested against which, and what its tables say about it."""

import csv
import io
import math

import numpy as np
import pytest

from spikedistill.report.records import Comparison, RunRecord
from spikedistill.report.sections.significance import CSV_HEADERS, HEADERS, cells, csv_table, markdown, notes, paired_tests
from spikedistill.report.statistics import error_of_test_set, holm, paired_p, smallest_detectable, standard_error


def run(method, seed, accuracy, *, experiment="digits", role="student", correct=None, teacher=0):
    evaluation = None if accuracy is None else {"accuracy": accuracy}
    sources = {f"teachers/t{teacher}": {}, f"students/{method}{seed}": {}, f"evaluations/{method}{seed}": {}}
    names = (experiment, "digits", role, method, "resnet8", 2, seed, f"{method}{seed}")
    return RunRecord(*names, evaluation, correct=correct, sources=sources)


def runs(method, accuracies, **more):
    return [run(method, seed, accuracy, **more) for seed, accuracy in enumerate(accuracies)]


def compared(records, *baselines):
    return Comparison(records, baselines={record.experiment: baselines for record in records})


CE, TET, KD = (0.80, 0.82, 0.81, 0.80), (0.81, 0.83, 0.83, 0.82), (0.90, 0.92, 0.90, 0.91)


def test_every_method_is_tested_against_each_baseline_and_a_baseline_against_those_before_it():
    records = [*runs("kd", KD), *runs("tet", TET), *runs("ce", CE), *runs("sealkd", KD)]
    found = [(each.method, each.against) for each in paired_tests(compared(records, "ce", "tet"))]
    assert found == [("kd", "ce"), ("tet", "ce"), ("sealkd", "ce"), ("kd", "tet"), ("sealkd", "tet")]
    assert len(paired_tests(compared(records, "ce"))) == 3


def test_teachers_and_other_experiments_are_not_compared():
    records = [
        *runs("teacher", KD, role="teacher"),
        *runs("ce", CE),
        *runs("ce", CE, experiment="b"),
        *runs("kd", KD, experiment="b"),
    ]
    assert [(each.experiment, each.method) for each in paired_tests(compared(records, "ce"))] == [("b", "kd")]


def test_seeds_that_one_of_the_methods_lacks_do_not_count_and_fewer_than_three_are_not_tested():
    (found,) = paired_tests(compared([*runs("ce", CE), *runs("kd", (None, *KD[1:]))], "ce"))
    assert found.difference.num_pairs == 3
    assert found.test.p == pytest.approx(paired_p([kd - ce for kd, ce in zip(KD[1:], CE[1:], strict=True)]))
    assert paired_tests(compared([*runs("ce", CE), *runs("kd", (None, None, *KD[2:]))], "ce")) == []


def test_the_correction_is_for_all_tests_of_the_report():
    records = [
        each
        for experiment in "ab"
        for m, a in (("ce", CE), ("tet", TET), ("kd", KD))
        for each in runs(m, a, experiment=experiment)
    ]
    tests = paired_tests(compared(records, "ce", "tet"))
    assert len(tests) == 6
    assert [each.p_holm for each in tests] == holm([each.test.p for each in tests])
    differences = [kd - ce for kd, ce in zip(KD, CE, strict=True)]
    (of_kd, _) = (each for each in tests if (each.method, each.against) == ("kd", "ce"))
    assert of_kd.p_holm >= 2 * of_kd.test.p
    assert of_kd.smallest_detectable == smallest_detectable(standard_error(differences), len(KD), 6)


def test_the_predictions_of_the_pairs_give_the_error_of_the_test_set():
    rng = np.random.default_rng(1)
    right = {(method, seed): rng.random(50) < 0.8 for method in ("ce", "old", "kd") for seed in range(4)}
    # a seed that only one of the two methods has is no pair: its predictions do not count
    records = [run(method, seed, c.mean(), correct=None if method == "old" else c) for (method, seed), c in right.items()]
    records = [each for each in records if (each.method, each.seed) != ("ce", 0)]
    found = {each.method: each for each in paired_tests(compared(records, "ce"))}
    mine, theirs = (np.stack([right[method, seed] for seed in (1, 2, 3)]) for method in ("kd", "ce"))
    assert found["kd"].test.sample_error == error_of_test_set(mine, theirs)
    assert found["kd"].combined_p_holm == min(1, 2 * found["kd"].test.combined_p)  # one of two tests, the only one that is known
    both = math.hypot(found["kd"].test.seed_error, found["kd"].test.sample_error)
    assert found["kd"].combined_smallest_detectable == smallest_detectable(both, 3, 2)
    assert found["old"].combined_smallest_detectable is None
    assert (found["old"].test.sample_error, found["old"].test.combined_p, found["old"].combined_p_holm) == (None, None, None)


def test_a_run_without_predictions_leaves_the_error_of_the_test_set_unknown():
    records = [run(method, seed, 0.1 * seed, correct=np.ones(5, bool)) for method in ("ce", "kd") for seed in range(3)]
    records[4] = run("kd", 1, 0.3)
    (found,) = paired_tests(compared(records, "ce"))
    assert found.test.sample_error is None


def test_a_row_says_what_was_found_and_marks_what_is_significant():
    records = [*runs("ce", CE), *runs("tet", TET), *runs("kd", (0.90, 0.92, 0.91, 0.9001))]
    tet, kd = cells(paired_tests(compared(records, "ce")))
    # tet: differences of 1, 1, 2, 2 points: mean 1.5, standard error 0.577 / 2, t = 5.196, of 0.975 with 3 degrees 3.182446
    assert dict(zip(HEADERS, tet, strict=True)) == {
        "experiment": "digits",
        "method": "tet",
        "against": "ce",
        "difference (points)": "+1.50 [+0.58, +2.42]",
        "pairs": "4",
        "error: seeds": "0.29",
        "error: test samples": "-",
        "p": "0.014",
        "p (Holm)": "0.014",
        "p, both errors (Holm)": "-",
        "smallest detectable (points)": "2.72",
        "smallest detectable, both errors": "-",
    }
    assert kd[8].endswith(" †")


def test_what_is_significant_is_decided_after_the_correction():
    alone = [*runs("ce", CE), *runs("kd", KD)]
    many = [*alone, *(each for i in range(99) for each in runs(f"x{i}", TET))]
    before, after = (paired_tests(compared(records, "ce"))[0] for records in (alone, many))
    assert before.p_holm == before.test.p == after.test.p < 0.01 < after.p_holm
    assert (before.is_significant, after.is_significant) == (True, False)


def test_the_notes_say_how_many_tests_there_were_and_what_they_cannot_say():
    records = [*runs("ce", CE), *runs("kd", KD)]
    text = " ".join(notes(paired_tests(compared(records, "ce"))))
    assert "for all 1 tests" in text
    assert "say nothing about other teachers" in text
    assert "did not keep the predictions" in text
    own = [run(m, s, a, correct=np.ones(9, bool), teacher=s) for m, of in (("ce", CE), ("kd", KD)) for s, a in enumerate(of)]
    tests = paired_tests(compared(own, "ce"))
    assert tests[0].num_teachers == 4
    assert not {"other", "keep"} & set(" ".join(notes(tests)).split())


def test_the_csv_file_has_plain_numbers_in_points_and_is_empty_without_tests():
    tests = paired_tests(compared([*runs("ce", CE), *runs("tet", TET)], "ce"))
    (row,) = csv.DictReader(io.StringIO(csv_table(tests)))
    assert (row["method"], row["against"], row["num_pairs"], row["num_teachers"]) == ("tet", "ce", "4", "1")
    assert float(row["difference_points"]) == pytest.approx(1.5)
    assert float(row["difference_low_points"]) == pytest.approx(1.5 - 3.182446 * 100 * tests[0].test.seed_error, abs=1e-5)
    assert float(row["seed_error_points"]) == pytest.approx(0.288675, abs=1e-6)
    assert float(row["p"]) == pytest.approx(tests[0].test.p, rel=1e-5)
    assert (row["test_set_error_points"], row["p_both_errors"], row["num_tests"], row["level"]) == ("", "", "1", "0.01")
    assert csv_table([]) == ",".join(CSV_HEADERS) + "\n"


def test_markdown_is_a_section_or_nothing():
    tests = paired_tests(compared([*runs("ce", CE), *runs("tet", TET)], "ce"))
    lines = markdown(tests).splitlines()
    assert lines[0] == "## Tests"
    assert "| digits       | tet      | ce        |" in lines[4]
    assert markdown([]) == ""
