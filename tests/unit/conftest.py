"""A small store with a teacher, a student trained from it, and what was measured on both: made once, by the stages themselves."""

from types import SimpleNamespace

import pytest

from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store

TRAIN = {"epochs": 1, "batch_size": 64}
CONFIG = {
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "width": 1.25, "train": TRAIN},
            "student": {"arch": "resnet8", "width": 1.25, "time_steps": 2, "train": TRAIN},
            "methods": {"kd": {}},
        }
    }
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    store, plan = Store(root / "store"), build_plan(parse_config(CONFIG))
    for spec in plan.stages.values():
        run_stage(spec, store, RunOptions(results=root / "results"))
    teacher, student = (row.model for row in plan.rows)
    return SimpleNamespace(store=store, teacher=teacher, student=student, plan=plan, results=root / "results")
