"""Looking and stopping from a second shell while a workflow runs on this machine, and after its main process was killed."""

import pytest

from slurm_lab.main_process import Main, wait_for
from tests.second_shell import HEADINGS, SecondShell, ends_within, is_alive

pytestmark = pytest.mark.slow
LOCAL = ["--submitit-cluster", "local", "--retries", "3", "--keep-going", "--until", "distill", "--submitit-local-cpus", "2"]

POOLED = [*LOCAL, "--set-resources", "distill:pool=2", "--submitit-pool-preload", "spikedistill.cli"]
PROFILE = ["--profile", "cluster/local"]  # asks no Slurm, which may be on this machine and not answer


class Nowhere:
    """In place of a cluster: no variables of Slurm."""

    environment = {}  # noqa: RUF012


@pytest.fixture
def shell(tmp_path):
    return SecondShell(tmp_path / "project")


@pytest.fixture
def main(shell):
    started = Main(Nowhere, shell.folder, *LOCAL)
    yield started
    started.kill()


def jobs(shell):
    return [stage["job"]["job_id"] for stage in shell.status()["stages"] if stage["job"]]


def end_one_of_two(shell, main):
    """Cancel one training: it is not tried again, and the other goes on."""
    shell.tells("cancel", "digits-resnet8-ce")
    shell.wait_for("ce", "cancelled")
    wait_for(lambda: "Error in rule distill" in main.output, 60, "Snakemake's report")
    assert "Trying to restart" not in main.output
    assert shell.stage("tet")["state"] == "running"


def test_a_run_is_seen_and_ended_while_its_main_process_runs(shell, main):
    begun = {method: shell.wait_for(method, "running", epochs=1) for method in ("ce", "tet")}
    assert all(is_alive(int(stage["job"]["job_id"])) for stage in begun.values())
    assert shell.status()["snakemake"][0]["pid"] == main.process.pid
    shell.follow("students/*", until=[*HEADINGS, "epoch"])
    assert "spikedistill run" in shell.tells("submit", "*-ce-*", "--dry-run", "--cluster", "local")
    (offer,) = shell.offered("spikedistill cancel digits-resnet8-ce")
    assert offer.strip().startswith("digits-resnet8-ce-seed0-")
    assert "submitit" in shell.tells("logs", "digits-resnet8-ce", "--rank", "all")

    end_one_of_two(shell, main)

    told = shell.tells("cancel", "--all")
    assert f"told to end: Snakemake, process {main.process.pid}" in told
    assert ends_within(main.process, 60)
    wait_for(lambda: jobs(shell) == [], 30, "no jobs")
    assert shell.stage("tet")["state"] == "cancelled"


def test_jobs_of_a_main_process_that_was_killed_are_seen_to_have_ended(shell, main):
    job_id = int(shell.wait_for("ce", "running", epochs=1)["job"]["job_id"])
    main.kill()
    wait_for(lambda: not is_alive(job_id), 30, "the end of the job, whose owner is gone")
    assert shell.wait_for("ce", "interrupted", timeout_s=30)["progress"]["epoch"] >= 1
    assert shell.status()["snakemake"] == []
    assert "no job was ended" in shell.tells("cancel", "--all", *PROFILE)
    assert "has no job" in shell.tells("cancel", "digits-resnet8-ce", *PROFILE)
    shell.follow("digits-resnet8-ce", until=["epoch"])


def test_jobs_that_share_processes_are_seen_and_ended_one_by_one(shell):
    main = Main(Nowhere, shell.folder, *POOLED)
    try:
        begun = {method: shell.wait_for(method, "running", epochs=1) for method in ("ce", "tet")}
        assert {stage["job"]["cluster"] for stage in begun.values()} == {"pool"}
        shell.follow("digits-resnet8-ce", until=["epoch"])
        assert "its modules are those that the worker has loaded" in shell.tells("logs", "digits-resnet8-ce", "--rank", "all")
        end_one_of_two(shell, main)
        main.kill()
        assert shell.wait_for("tet", "interrupted", timeout_s=30)["job"] is None
        assert "no job was ended" in shell.tells("cancel", "--all", *PROFILE)
    finally:
        main.kill()
