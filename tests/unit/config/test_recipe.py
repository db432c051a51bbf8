"""Optimizers, schedules and the other keys of a recipe in a configuration: what is refused and why, sweeps, ids."""

import copy
import os

import jsonschema
import pytest
import yaml

from spikedistill import plugins
from spikedistill.config.check import parse_config
from spikedistill.config.schema import config_schema
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan

CONFIG = """
experiments:
  one:
    dataset: {name: digits}
    teacher: {arch: resnet8, train: {epochs: 10, batch_size: 32}}
    student: {arch: resnet8, time_steps: 2, train: {epochs: 10, batch_size: 32}}
    methods: {kd: {}}
"""


def config(role="student", plug_ins=(), **recipe):
    values = yaml.safe_load(CONFIG)
    values["experiments"]["one"][role]["train"] |= copy.deepcopy(recipe)
    return values | {"plugins": list(plug_ins)}


def specs(values):
    return {spec.stage: spec for spec in build_plan(parse_config(values)).stages.values()}


def ids(values):
    return {stage: spec.id for stage, spec in specs(values).items()}


ADAMW = {"name": "adamw"}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimizer": {"name": "adamv"}}, "optimizer: unknown optimizer 'adamv'. Did you mean 'adamw'? Allowed: adamw, sgd"),
        ({"schedule": {"name": "cosin"}}, "schedule: unknown schedule 'cosin'. Did you mean 'cosine'?"),
        (
            {"optimizer": {"name": "adamw", "params": {"beta": [0.9, 0.99]}}},
            "optimizer.params.beta: unknown key 'beta'. Did you mean 'betas'? Allowed: amsgrad, betas, eps",
        ),
        ({"optimizer": {"name": "adamw", "params": {"betas": [0.9, 1]}}}, "params.betas.1: input should be less than 1; found 1"),
        ({"optimizer": {"params": {"nestrov": True}}}, "params.nestrov: unknown key 'nestrov'. Did you mean 'nesterov'?"),
        (
            {"optimizer": {"params": {"nesterov": True}}, "momentum": 0},
            "optimizer.params.nesterov: needs a momentum, and train.momentum is 0",
        ),
        ({"optimizer": {"name": "sgd", "lr": 1}}, "optimizer.lr: unknown key 'lr'. Allowed: name, params"),
        ({"optimizer": "adamw"}, "train.optimizer: a section is expected: {name: adamw}"),
        ({"optimizer": {"name": 3}}, "optimizer.name: input should be a valid string; found 3"),
        (
            {"optimizer": ADAMW, "momentum": 0.9},
            "momentum: is not for adamw, whose own are under optimizer.params (betas, eps",
        ),
        (
            {"schedule": {"name": "step", "params": {"milestones": [5, 5]}}},
            "milestones: expected at least one",
        ),
        (
            {"schedule": {"name": "step", "params": {"milestones": [5, 10]}}},
            "schedule.params.milestones: 10 would never be reached: train.epochs is 10",
        ),
        ({"schedule": {"per": "batch"}}, "schedule.per: input should be 'epoch' or 'step'; found 'batch'"),
        ({"clip_grad_norm": 0}, "clip_grad_norm: input should be greater than 0; found 0"),
        ({"label_smoothing": 1}, "label_smoothing: input should be less than 1; found 1"),
        ({"mixup": -1}, "mixup: input should be greater than or equal to 0; found -1"),
        ({"mix_probability": 0.5}, "mix_probability has no effect without mixup or cutmix; set one of them"),
        ({"ema": 1}, "ema: input should be less than 1; found 1"),
        ({"drop_path": 0.1}, "drop_path: resnet8 has no stochastic depth"),
    ],
)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_what_does_not_fit_is_told_with_what_does(role, recipe, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(config(role, **recipe))
    assert f"config.yaml: experiments.one.{role}.train" in str(caught.value)
    assert message in str(caught.value)


def test_all_mistakes_of_a_recipe_are_told_at_once():
    recipe = {"optimizer": {"name": "adamw", "params": {"esp": 1}}, "schedule": {"name": "stepp"}, "ema": 2}
    with pytest.raises(ConfigError) as caught:
        parse_config(config(**recipe))
    assert "3 problems" in str(caught.value)


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": {"name": "sgd"}},
        {"optimizer": {"params": {"nesterov": False}}},
        {"optimizer": {}, "schedule": {}},
        {"schedule": {"name": "cosine", "per": "epoch", "params": {"minimum": 0}}},
        {"momentum": 0.9, "mixup": 0, "ema": None, "clip_grad_norm": None, "label_smoothing": 0.0},
    ],
)
def test_recipes_of_the_published_kind_keep_their_ids(recipe):
    assert ids(config(**recipe)) == ids(config())


def test_defaults_of_an_optimizer_are_no_part_of_the_id():
    plain = ids(config(optimizer=ADAMW))
    assert plain == ids(config(optimizer={"name": "adamw", "params": {"betas": [0.9, 0.999], "eps": "1e-8"}}))
    assert plain != ids(config())


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": {"params": {"nesterov": True}}},
        {"optimizer": ADAMW},
        {"optimizer": {"name": "adamw", "params": {"eps": 1e-7}}},
        {"schedule": {"name": "constant"}},
        {"schedule": {"per": "step"}},
        {"clip_grad_norm": 1.0},
        {"label_smoothing": 0.1},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"ema": 0.999},
    ],
)
def test_every_key_of_a_recipe_is_part_of_the_id(recipe):
    for role, stage in (("teacher", "teacher"), ("student", "distill")):
        assert ids(config(role, **recipe))[stage] != ids(config(role))[stage]


def test_a_spec_is_read_as_it_was_written():
    spec = specs(config(optimizer={"name": "adamw", "params": {"betas": [0.9, 0.99]}}, ema=0.99))["distill"]
    again = type(spec).model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.id == spec.id
    assert spec.train.optimizer.checked_params.betas == (0.9, 0.99)


def test_parameters_of_an_optimizer_are_swept():
    values = config(optimizer={"name": "adamw", "params": {"eps": [1e-8, 1e-6]}}, lr=[0.001, 0.01])
    jsonschema.validate(values, config_schema())
    plan = build_plan(parse_config(values))
    assert list(dict.fromkeys(row.experiment for row in plan.rows)) == [
        f"one[eps={eps},lr={lr}]" for eps in ("1e-08", "1e-06") for lr in ("0.001", "0.01")
    ]


def test_names_of_optimizers_and_schedules_are_swept():
    values = config(optimizer={"name": ["sgd", "adamw"]}, schedule={"name": ["cosine", "constant"]})
    jsonschema.validate(values, config_schema())
    assert len({spec.id for spec in build_plan(parse_config(values)).stages.values() if spec.stage == "distill"}) == 4


@pytest.mark.parametrize(
    "recipe", [{"optimizer": {"name": "adamv"}}, {"optimizer": {"name": "adamw", "params": {"beta": 1}}}, {"schedule": "cosine"}]
)
def test_the_schema_for_editors_refuses_it_too(recipe):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config(**recipe), config_schema())


def test_label_smoothing_is_refused_where_a_method_takes_none(tmp_path, monkeypatch):
    plug_in = folder_of(tmp_path, monkeypatch, "distill/plain.py", METHOD)
    values = config(plug_ins=[plug_in], label_smoothing=0.1)
    values["experiments"]["one"]["methods"]["plain"] = {}
    with pytest.raises(ConfigError, match=r"methods\.plain: takes no label smoothing, and student\.train\."):
        parse_config(values)


def test_drop_path_reaches_an_architecture_that_has_it(tmp_path, monkeypatch):
    plug_in = folder_of(tmp_path, monkeypatch, "models/deep.py", ARCHITECTURE)
    for rate, role in ((0.0, "student"), (0.2, "student"), (0.2, "teacher")):
        values = config(role, plug_ins=[plug_in], **({"drop_path": rate} if rate else {}))
        values["experiments"]["one"][role]["arch"] = "deep"
        assert specs(values)["distill" if role == "student" else role].network["drop_path"] == rate


def test_the_code_of_an_optimizer_of_a_plug_in_is_part_of_the_id(tmp_path, monkeypatch):
    plug_in = folder_of(tmp_path, monkeypatch, "optimizers/mine.py", OPTIMIZER)
    spec = specs(config(plug_ins=[plug_in], optimizer={"name": "mine", "params": {"speed": 2}}))["distill"]
    name = plug_in.removeprefix("./")
    assert f"{name}.optimizers.mine" in spec.code
    assert spec.train.optimizer.params == {"speed": 2.0}


def test_momentum_is_for_every_optimizer_that_says_so(tmp_path, monkeypatch):
    plug_in = folder_of(tmp_path, monkeypatch, "optimizers/mine.py", OPTIMIZER)
    with pytest.raises(ConfigError, match="momentum: is not for mine"):
        parse_config(config(plug_ins=[plug_in], optimizer={"name": "mine"}, momentum=0.5))
    other = folder_of(tmp_path, monkeypatch, "optimizers/mine.py", OPTIMIZER + "\nUSES_MOMENTUM = True\n")
    parse_config(config(plug_ins=[other], optimizer={"name": "mine"}, momentum=0.5))


METHOD = '''
"""A method without cross-entropy."""
from spikedistill.components import ComponentParams


class Params(ComponentParams):
    """No parameters."""


def needs(params):
    """Return nothing."""
    return frozenset()


def loss(inputs, params):
    """Return the terms."""
    return {"size": inputs.logits.square().mean()}
'''
OPTIMIZER = '''
"""An optimizer of a test."""
from spikedistill.components import ComponentParams


class Params(ComponentParams):
    """Parameters."""

    speed: float = 1.0


def build(groups, lr, params):
    """Return torch's."""
    import torch

    return torch.optim.SGD(groups, lr=lr * params.speed)
'''
ARCHITECTURE = """
ARCHITECTURES = {"deep": {"widths": (16, 32), "drop_path": 0.0}}


def build(entry, *, num_classes, in_channels, activation):
    raise NotImplementedError
"""
COUNT = iter(range(1000))


@pytest.fixture(autouse=True)
def no_plug_ins_afterwards(monkeypatch):
    yield
    plugins.activate([])


def folder_of(tmp_path, monkeypatch, file, text):
    """Make a plug-in with one file, under a name that is new, and go to where it lies; return its name for a configuration."""
    name = f"recipes_{os.getpid()}_{next(COUNT)}"
    place = tmp_path / name / file
    place.parent.mkdir(parents=True)
    place.write_text(text)
    monkeypatch.chdir(tmp_path)
    return f"./{name}"
