"""Recipes: each passes the check of its configuration and a dry run; three run through, small, with every stage."""

import re

import pytest

from spikedistill import cli
from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config
from spikedistill.plan.build import build_plan
from tests.workflow.recipes import RECIPES, prepare, small_override, snakemake

BASELINES = {"dvs128-gesture-plif": {"ce", "tet"}, "n-mnist-plif": {"ce", "kd"}, "n-caltech101-nda": {"ce", "kd", "sealkd"}}
"""Recipes after papers without distillation, and the methods that they compare."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    prepare(folder)
    return folder


def test_every_paper_has_a_recipe_on_every_dataset_and_every_dataset_a_benchmark():
    datasets = ("cifar10", "cifar100", "cifar10-dvs", "imagenet")
    single = {f"{dataset}-{method}" for dataset in datasets for method in ("sealkd", "tdd", "esd", "ckdsnn")}
    assert set(RECIPES) == single | {f"benchmark-{dataset}" for dataset in datasets} | set(BASELINES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_as_it_stands_and_says_what_it_deviates_in(name, project, monkeypatch):
    monkeypatch.chdir(project)
    plan = build_plan(parse_config(read_config([RECIPES[name]])))
    methods = {spec.method for spec in plan.stages.values() if spec.stage == "distill"}
    text = RECIPES[name].read_text()
    assert f"--configfile workflow/recipes/{name}.yaml --profile cluster\n" in text
    assert "# Deviates from" in text
    if name.startswith("benchmark-"):
        assert methods == {"ce", "tet", "kd", "tdd", "sealkd", "ckdsnn", "esd"}
        assert len(plan.config.seeds) == 5
    else:
        assert methods == BASELINES.get(name, {name.rpartition("-")[2]})
    assert cli.main(["plan", "--configfile", str(RECIPES[name])]) == 0


@pytest.mark.parametrize("name", ["benchmark-cifar10", "benchmark-cifar10-dvs", "benchmark-imagenet", "cifar100-ckdsnn"])
def test_a_dry_run_finds_the_files_and_tells_the_cost(name, project):
    done = snakemake(project, name, "-n", "--config", "rehearse=false")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "GPU-hours" in done.stdout
    assert "preprocess" in done.stdout


@pytest.mark.parametrize("name", ["cifar10-dvs-sealkd", "imagenet-esd", "n-mnist-plif"])
def test_the_shape_of_a_recipe_runs_through(name, project):
    done = snakemake(project, name, "--profile", "cluster/local")
    assert done.returncode == 0, done.stdout[-5000:]
    table = (project / f"results/{name}-rehearsal/results.md").read_text()
    assert BASELINES.get(name, {name.rpartition("-")[2]}) <= set(re.findall(r"[\w-]+", table))


def test_small_data_changes_nothing_else_of_a_recipe():
    override = small_override(RECIPES["cifar10-sealkd"])
    assert set(override) == {"rehearse", "seeds", "experiments"}
