"""The comparison on mnist-5k and its search keep to docs/protocol.md."""

import re
from itertools import product

import pytest

from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import DistillSpec, TeacherSpec
from tests.workflow.project import ROOT

RECIPES = ROOT / "workflow" / "recipes"
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def final():
    return parse_config(read_config([RECIPES / "benchmark-mnist5k.yaml"], []))


@pytest.fixture(scope="module")
def search():
    return parse_config(read_config([RECIPES / "benchmark-mnist5k-search.yaml"], []))


def students(config):
    return [spec for spec in build_plan(config).stages.values() if isinstance(spec, DistillSpec)]


def test_no_seed_of_the_search_is_one_of_the_comparison(final, search):
    assert not set(final.seeds) & set(search.seeds)
    assert final.seeds == list(range(10))


def test_students_of_both_differ_in_seeds_and_recipes_alone(final, search):
    def without_recipe(spec):
        return {
            key: value
            for key, value in spec.model_dump(mode="json").items()
            if key not in ("seed", "train", "teacher", "time_steps", "train_samples")
        }

    searched = [without_recipe(spec) for spec in students(search)]
    assert all(without_recipe(spec) in searched for spec in students(final))


def test_every_learning_rate_and_length_of_the_comparison_was_searched(final, search):
    grid = {(spec.backward, spec.dataset, spec.train.lr, spec.train.epochs) for spec in students(search)}
    assert {(spec.backward, spec.dataset, spec.train.lr, spec.train.epochs) for spec in students(final)} <= grid


def test_every_method_is_searched_on_the_same_grid(search):
    grids = {}
    for spec in students(search):
        grids.setdefault((spec.dataset, spec.backward), {}).setdefault(spec.method, set()).add((spec.train.lr, spec.train.epochs))
    for of_method in grids.values():
        assert len({frozenset(grid) for grid in of_method.values()}) == 1
    rates = {float(rate) for rate in re.search(r"learning rate (.*?), times", PROTOCOL)[1].replace(" or", ",").split(",")}
    assert grids["mnist-5k", "bptt"]["ce"] == set(product(rates, (30, 60)))


def test_each_seed_has_a_teacher_of_its_own_on_the_labels_of_its_students(final):
    plan = build_plan(final)
    for spec in students(final):
        if spec.teacher is not None:
            teacher = plan.stages[spec.teacher]
            assert isinstance(teacher, TeacherSpec)
            assert (teacher.seed, teacher.train_samples) == (spec.seed, spec.train_samples)


def test_the_protocol_counts_the_comparisons(final):
    number = 0
    for experiment in final.experiments.values():
        baselines = experiment.baseline if isinstance(experiment.baseline, list) else ["ce"]
        number += sum(len(experiment.methods) - 1 - i for i in range(len(baselines)))
    assert set(re.findall(r"(\d+) comparisons", PROTOCOL)) == {str(number)}
