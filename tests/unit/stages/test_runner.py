"""A stage that was interrupted goes on from its state only if its inputs are still the same."""

import pytest

from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.stages import runner
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store

RECIPE = {"epochs": 1, "batch_size": 64}
CONFIG = {
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": RECIPE},
            "student": {"arch": "resnet8", "time_steps": 2, "train": RECIPE},
            "methods": {"kd": {}},
        }
    }
}


def make(store, spec, content):
    with store.building(spec.ref, spec.model_dump(mode="json"), tuple(spec.upstream.values())) as build:
        (build.folder / "weights").write_text(content)


@pytest.mark.parametrize(("teacher", "left"), [("the same", "first"), ("another", None)])
def test_state_from_a_teacher_that_was_made_again_is_not_used(tmp_path, monkeypatch, caplog, teacher, left):
    plan, store = build_plan(parse_config(CONFIG)), Store(tmp_path)
    specs = {spec.stage: spec for spec in plan.stages.values()}
    make(store, specs["preprocess"], "data")
    make(store, specs["teacher"], "the same")
    seen = []

    def interrupted(spec, job):
        checkpoint = job.work / "checkpoints" / "state"
        seen.append(checkpoint.read_text() if checkpoint.exists() else None)
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_text("first")
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stage(specs["distill"], store, RunOptions())
    store.set_aside(specs["teacher"].ref)
    make(store, specs["teacher"], teacher)
    with pytest.raises(KeyboardInterrupt):
        run_stage(specs["distill"], store, RunOptions())
    assert seen == [None, left]
    assert ("its inputs were made again" in caplog.text) == (left is None)


def test_a_rank_builds_nothing_that_another_job_has_made_while_it_waited(tmp_path, monkeypatch):
    plan, store = build_plan(parse_config(CONFIG)), Store(tmp_path)
    spec = next(spec for spec in plan.stages.values() if spec.stage == "preprocess")

    def wait(path, owner, is_done):
        make(store, spec, "of another job")
        return True

    monkeypatch.setattr(runner.lease, "wait_for_owner", wait)
    monkeypatch.setattr(runner, "_build", lambda spec, job: pytest.fail("it is there"))
    monkeypatch.setenv("RANK", "1")
    assert (run_stage(spec, store, RunOptions()) / "weights").read_text() == "of another job"


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("10.0.0.7", "10.0.0.7:29500"),
        ("node1", "node1:29500"),
        *((a, f"here {a}:29500") for a in ("127.0.0.1", "localhost", "::1")),
    ],
)
def test_all_ranks_of_a_job_and_of_no_other_have_the_name_of_the_owner(monkeypatch, address, owner):
    monkeypatch.setattr(runner.socket, "gethostname", lambda: "here")
    for name, value in {"MASTER_ADDR": address, "MASTER_PORT": "29500", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert runner._owner() == owner
