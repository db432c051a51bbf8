"""Ids that can be trusted for years: new keys change none, a changed default is noticed, and code is part of them."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import create_model

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.config.sweep import model_of
from spikedistill.errors import StaleCodeError
from spikedistill.evaluate.settings import EnergyConfig, EvaluateConfig
from spikedistill.plan import stages
from spikedistill.plan.build import build_plan
from spikedistill.plan.code import digest_of, unlocked
from spikedistill.plan.defaults import KINDS, changed_defaults, current_defaults
from spikedistill.plan.stages import STAGES
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store

ROOT = Path(__file__).parents[3]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def refs(config):
    return list(build_plan(parse_config(config)).stages)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return value


def spelled(value, spell):
    if isinstance(value, dict):
        return {key: spelled(each, spell) for key, each in value.items()}
    return spell(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize("spell", [float, str, lambda number: f"{float(number):.1f}" if number == int(number) else str(number)])
def test_order_and_spelling_change_no_id(spell):
    config = copy.deepcopy(CONFIG)
    expected = refs(config)
    config["experiments"] = {label: config["experiments"][label] for label in config["experiments"]}
    for label, experiment in config["experiments"].items():
        methods = spelled(experiment["methods"], spell)
        config["experiments"][label] = {**reordered(spelled(experiment, spell)), "methods": methods}
    assert refs(config) == expected


def test_what_is_at_its_default_may_be_written_or_left_out():
    config = copy.deepcopy(CONFIG)
    student = config["experiments"]["digits"]["student"]
    student["train"] = {"epochs": 12, "batch_size": 64, "lr": 0.2, "augment": {"crop_padding": 1}, "warmup_epochs": 1}
    student["neuron"] = {}
    assert refs(config) == refs(CONFIG)


NEW = {
    "new_text": "sgd",
    "new_switch": False,
    "new_number": 0.0,
    "new_choice": None,
    "new_pair": (0.9, 0.999),
    "new_empty": "",
}


def with_new_keys(model):
    return create_model(model.__name__, __base__=model, **{key: (type(value) | None, value) for key, value in NEW.items()})


def test_new_keys_with_defaults_change_no_id(monkeypatch):
    plan = build_plan(parse_config(CONFIG))
    expected = {ref: spec.id for ref, spec in plan.stages.items()}
    sections = {name: with_new_keys(getattr(stages, name)) for name in ("InputConfig", "NeuronConfig", "TrainConfig")}
    energy = with_new_keys(EnergyConfig)
    evaluate = create_model("EvaluateConfig", __base__=with_new_keys(EvaluateConfig), energy=(energy, energy()))
    sections["EvaluateConfig"] = evaluate
    specs = {}
    for stage in STAGES.values():
        fields = {
            name: (sections[section.__name__] | None, ...)
            for name, field in stage.spec.model_fields.items()
            if (section := model_of(field.annotation)) and section.__name__ in sections
        }
        specs[stage.name] = with_new_keys(create_model(stage.spec.__name__, __base__=stage.spec, **fields))
    for kind in KINDS:
        for name in components.names(kind):
            module = components.load(kind, name)
            monkeypatch.setattr(module, "Params", with_new_keys(module.Params))
    stages._given_params.cache_clear()
    try:
        for ref, spec in plan.stages.items():
            later = specs[spec.stage].model_validate(spec.model_dump())
            assert later.model_dump() != spec.model_dump()
            assert later.id == expected[ref], ref
    finally:
        stages._given_params.cache_clear()


def test_the_defaults_are_those_that_were_frozen():
    assert changed_defaults(current_defaults()) == []


def test_a_changed_default_and_a_new_key_are_told_with_what_to_do():
    (changed,) = changed_defaults(current_defaults() | {"TrainConfig.lr": 0.2})
    assert changed.startswith(
        "the default of TrainConfig.lr was 0.1 and is 0.2; ids would silently mean other work: give the new"
    )
    (new,) = changed_defaults(current_defaults() | {"TrainConfig.lookahead": 0})
    assert new == "the default of TrainConfig.lookahead is not frozen yet: run make generate"


def test_the_lock_fits_the_code():
    assert unlocked() == {}, "if results stay the same: spikedistill lock --keep MODULE; if not: --bump MODULE"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('"""Doc."""\nx = 1  # comment\n', "x=(1)", True),
        ('def f(a):\n    """Doc."""\n    return a\n', "def f( a ):\n\n    return a", True),
        ("class A:\n    x: int = 1\n    'about x'\n", "class A:\n    x: int = 1\n", True),
        ("ARCHITECTURES = {'a': {}}\nx = 1", "ARCHITECTURES = {'a': {}, 'b': {}}\nx = 1", True),
        ("x = 1", "x = 2", False),
        ("x = 1.0", "x = 1", False),
        ("x = -a", "x = +a", False),
        ("def f(a): return a", "def f(a=1): return a", False),
        ("x = 'a'", "x = 'b'", False),
        ("x = f'{a}'", "x = f'{a!r}'", False),
        ("for x in y: pass", "async def f():\n    pass", False),
    ],
)
def test_comments_docstrings_and_formatting_are_no_code(one, other, same):
    assert (digest_of(one) == digest_of(other)) is same


@pytest.fixture
def checkout(tmp_path):
    """A copy of the package whose files can be edited, and a function that plans with it."""
    shutil.copytree(ROOT / "src/spikedistill", tmp_path / "src/spikedistill", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))

    def plan(*arguments):
        program = "import sys; from spikedistill.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "plan", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return tmp_path / "src/spikedistill", plan


def ids_by_stage(output):
    lines = [line.split() for line in output.splitlines()]
    return {stage: {line[1] for line in lines if line[:1] == [stage]} for stage in STAGES}


def edit(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_an_edited_loss_gives_new_ids_to_its_students_and_what_follows_and_to_nothing_else(checkout):
    package, plan = checkout
    before = ids_by_stage(plan())
    edit(package / "distill/kd.py", "def kd_divergence", "FACTOR = -5\n\n\ndef kd_divergence")
    output = plan()
    after = ids_by_stage(output)
    assert after["preprocess"] == before["preprocess"]
    assert after["teacher"] == before["teacher"]
    for stage in ("distill", "evaluate"):
        changed = before[stage] - after[stage]
        assert len(changed) == 8
        assert all(re.search("-(kd|sealkd|ckdsnn)-seed", name) for name in changed)  # the latter two use its divergence
    assert "code: distill.kd is edited, " in output
    assert "other ids for 8 distill, 8 evaluate" in output


def test_an_edited_comment_changes_nothing(checkout):
    package, plan = checkout
    before = plan()
    for file in ("distill/kd.py", "train/engine.py", "data/store.py"):
        (package / file).write_text((package / file).read_text() + "\n# A remark.\n")
    assert plan() == before


def test_an_edited_engine_changes_all_networks_and_no_data(checkout):
    package, plan = checkout
    before = ids_by_stage(plan())
    (package / "train/engine.py").write_text((package / "train/engine.py").read_text() + "\nFACTOR = 2\n")
    after = ids_by_stage(plan())
    assert after["preprocess"] == before["preprocess"]
    assert all(not after[stage] & before[stage] for stage in ("teacher", "distill", "evaluate"))


def test_a_stage_whose_code_changed_after_it_was_planned_computes_nothing(tmp_path):
    spec = next(iter(build_plan(parse_config(CONFIG)).stages.values()))
    planned = stages.parse_spec(json.dumps(spec.model_dump(mode="json") | {"code": {"data.store": "0123456789abcdef"}}))
    with pytest.raises(StaleCodeError, match=r"data\.store \(edited, 01234567 when planned, version 1 now\)\. Nothing was"):
        run_stage(planned, Store(tmp_path / "store"), RunOptions())
    assert not (tmp_path / "store").exists()
