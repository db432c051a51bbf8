"""The command line of a stage's job tells it all that it needs of the configuration."""

from pathlib import Path

import yaml

from spikedistill.config.check import parse_config
from spikedistill.launch.command import stage_arguments
from spikedistill.plan.build import build_plan
from spikedistill.train.settings import parse_engine_config

CONFIG = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())


def test_every_stage_of_ranks_is_told_how_long_they_wait_for_each_other():
    plan = build_plan(parse_config(CONFIG | {"engine": {"rank_timeout_minutes": 7}}))
    waits = {"preprocess": set(), "teacher": set(), "distill": set(), "evaluate": set()}
    for spec in plan.stages.values():
        arguments = stage_arguments(plan, spec)
        if "--engine" in arguments:
            waits[spec.stage].add(parse_engine_config(arguments[arguments.index("--engine") + 1]).rank_timeout_minutes)
    assert waits == {"preprocess": set(), "teacher": {7}, "distill": {7}, "evaluate": {7}}
