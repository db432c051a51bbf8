"""The ranking of a sweep, from records."""

from spikedistill.report.records import RunRecord
from spikedistill.report.sections.ranking import rank_sweeps, ranking_cells


def run(value, seed, validation, test):
    evaluation = None if test is None else {"accuracy": test, "validation": {"accuracy": validation}}
    values = ("digits", "digits", "student", f"kd[alpha={value}]", "resnet8", 2, seed, "student", evaluation)
    return RunRecord(*values, validation=validation)


RECORDS = [
    *(run("1", seed, validation, 0.9) for seed, validation in enumerate((0.70, 0.74))),
    *(run("2", seed, validation, test) for seed, (validation, test) in enumerate(((0.76, 0.60), (0.80, 0.64)))),
    *(run("3", seed, validation, 0.8) for seed, validation in enumerate((0.60, 0.90))),
]


def test_the_mean_over_seeds_on_the_validation_split_decides():
    (sweep,) = rank_sweeps(RECORDS)
    assert [variant.values for variant in sweep.ranked] == ["alpha=2", "alpha=3", "alpha=1"]


def test_equal_means_stay_in_the_order_of_the_configuration():
    counts = {"2": (441, 459), "1": (440, 460), "3": (445, 455), "0": (430, 470)}
    found = [run(value, seed, 100 * (k / 500) / 100, None) for value, pair in counts.items() for seed, k in enumerate(pair)]
    means = [sum(r.validation for r in found[i : i + 2]) / 2 for i in range(0, len(found), 2)]
    assert len(set(means)) > 1, "rounding tells them apart"
    (sweep,) = rank_sweeps(found)
    assert [variant.values for variant in sweep.ranked] == ["alpha=2", "alpha=1", "alpha=3", "alpha=0"]


def test_the_test_accuracy_is_that_of_the_chosen_variant_alone_with_the_deviation_of_a_sample():
    rows = ranking_cells(rank_sweeps(RECORDS))
    assert rows[0][2:] == ["78.00 ± 2.83", "2", "62.00 ± 2.83"]
    assert [row[4] for row in rows[1:]] == ["", ""]


def test_a_variant_of_which_a_seed_is_missing_is_not_ranked():
    (sweep,) = rank_sweeps([*RECORDS, run("4", 0, 0.99, 0.99), run("4", 1, None, None)])
    assert [variant.values for variant in sweep.ranked] == ["alpha=2", "alpha=3", "alpha=1"]
    assert sweep.unranked == 1
    assert ranking_cells([sweep])[-1] == ["digits kd", "1 more", "", "", ""]


def test_networks_are_ranked_before_the_test_split_is_measured():
    (sweep,) = rank_sweeps([run(value, 0, validation, None) for value, validation in (("1", 0.7), ("2", 0.8))])
    assert [variant.values for variant in sweep.ranked] == ["alpha=2", "alpha=1"]
    assert [row[4] for row in ranking_cells([sweep])] == ["", ""]


def test_one_variant_is_no_sweep():
    assert rank_sweeps(RECORDS[:2]) == []
    assert rank_sweeps(RECORDS[:3]) != []


def test_a_single_seed_has_no_deviation():
    records = [run(value, 0, 0.5, 0.4) for value in "12"]
    assert ranking_cells(rank_sweeps(records))[0][2:] == ["50.00", "1", "40.00"]
