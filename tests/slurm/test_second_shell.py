"""Looking and stopping from a second login shell, on a real Slurm: while the main process runs, and after it was killed."""

import re

import pytest

from slurm_lab.main_process import Main, wait_for
from tests.second_shell import HEADINGS, SecondShell, ends_within

pytestmark = pytest.mark.slow
RETRIED = ["--retries", "3", "--keep-going", "--until", "distill", "--set-resources", "distill:slurm_partition=low"]
PREEMPTING = ["sbatch", "-p", "high", "-c", "4", "-t", "5", "-o", "/dev/null", "--wrap", "sleep 8"]


@pytest.fixture
def shell(slurm_cluster, tmp_path):
    yield SecondShell(tmp_path / "project", **slurm_cluster.environment)
    slurm_cluster.call("scancel", "-u", "root")


def calls_of(cluster):
    """Remote calls that slurmctld has served, by their kind, but for those of jobs, nodes and of sdiag itself."""
    section = cluster.call("sdiag").stdout.partition("by message type")[2].partition("by user")[0]
    counts = re.findall(r"(REQUEST_\w+_INFO)\s+\(.*?count:(\d+)", section)
    return {kind: int(count) for kind, count in counts if kind != "REQUEST_STATS_INFO"}


def test_a_run_is_seen_and_ended_while_its_main_process_runs_and_after_it_was_killed(slurm_cluster, shell):
    main = Main(slurm_cluster, shell.folder, *RETRIED)
    try:
        begun = {method: shell.wait_for(method, "running", epochs=1) for method in ("ce", "tet")}
        assert all(stage["job"]["cluster"] == "slurm" and stage["job"]["nodes"] for stage in begun.values())
        assert shell.status()["snakemake"][0]["pid"] == main.process.pid
        assert shell.status()["totals"]["end"]

        assert slurm_cluster.call(*PREEMPTING, "-w", begun["tet"]["job"]["nodes"]).returncode == 0
        requeued = shell.wait_for("tet", "pending")
        assert requeued["restarts"] == 1 and "requeued once" in requeued["said"]
        (log,) = (shell.folder / "logs" / "distill").glob("*-tet-*")
        assert "stopped by signal 15; saved the checkpoint after epoch" in log.read_text()
        again = shell.wait_for("tet", "running", epochs=begun["tet"]["progress"]["epoch"])
        assert (again["job"]["job_id"], again["restarts"], again["starts"]) == (begun["tet"]["job"]["job_id"], 1, 2)
        shell.wait_for("ce", "running", epochs=begun["ce"]["progress"]["epoch"])  # preempted too, if it ran on the same node

        look_around(shell)

        assert "told to end: distill" in shell.tells("cancel", "digits-resnet8-ce")
        shell.wait_for("ce", "cancelled")
        wait_for(lambda: "Error in rule distill" in main.output, 60, "Snakemake's report")
        assert "Trying to restart" not in main.output
        assert shell.stage("tet")["state"] == "running"
    finally:
        main.kill()
    after_the_main_process(slurm_cluster, shell)


def look_around(shell):
    shell.follow("students/*", until=[*HEADINGS, "epoch"])  # a job that was requeued has an empty log when it starts
    script = shell.tells("submit", "*-ce-*", "--dry-run", "--cluster", "slurm")
    assert "#SBATCH" in script and "spikedistill run" in script
    (offer,) = shell.offered("spikedistill cancel digits-resnet8-ce")
    assert offer.strip().startswith("digits-resnet8-ce-seed0-")
    assert "2 jobs" not in shell.tells("cancel", "--all", "--dry-run")


def after_the_main_process(slurm_cluster, shell):
    assert shell.status()["snakemake"] == []
    slurm_cluster.call("sdiag", "--reset")
    assert shell.stage("tet")["state"] == "running"
    assert calls_of(slurm_cluster) == {"REQUEST_JOB_INFO": 1, "REQUEST_PARTITION_INFO": 1}  # those of any squeue
    look_around(shell)
    shell.configure("ce")
    (stale,) = shell.status()["stale_jobs"]
    assert "-tet-" in stale["name"]
    assert "cancel --stale" in shell.tells("status")
    assert "no job was ended" in shell.tells("cancel", "--all")
    (shell.folder / "other.yaml").write_text((shell.folder / "config.yaml").read_text().replace("ce: {}", "tet: {}"))
    assert "no job was ended" in shell.tells("cancel", "--stale", "--for", "other.yaml")
    assert stale["job_id"] in shell.tells("cancel", "--stale")
    wait_for(lambda: not slurm_cluster.queue(), 60, "an empty queue")


def test_a_whole_run_is_ended_with_its_main_process(slurm_cluster, shell):
    main = Main(slurm_cluster, shell.folder, *RETRIED)
    try:
        shell.wait_for("ce", "running", "starting", "pending")
        told = shell.tells("cancel", "--all")
        assert f"told to end: Snakemake, process {main.process.pid}" in told
        assert ends_within(main.process, 60)
        wait_for(lambda: not slurm_cluster.queue(), 60, "an empty queue")
        assert "Trying to restart" not in main.output
    finally:
        main.kill()


def test_jobs_of_submit_are_found_without_any_record(slurm_cluster, shell):
    shell.tells("submit", "*-ce-*", "--with-upstream", "--cluster", "slurm")
    stage = shell.wait_for("ce", "running", epochs=1)
    assert stage["job"]["cluster"] == "slurm"
    shell.tells("cancel", "*-ce-*")
    assert shell.wait_for("ce", "cancelled")["job"] is None
