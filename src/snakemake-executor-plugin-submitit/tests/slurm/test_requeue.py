"""Jobs whose place, node or rank is taken away."""

import os
import signal
import time

import pytest

from slurm_lab.main_process import lines, wait_for
from slurm_lab.scenarios import Scenarios, repeated, starts

# the second rank loses its node once; the others go on by themselves, as while they compute between two collectives
PAIR = """\
import os, pathlib, time
rank = os.environ["RANK"]
pathlib.Path(f"node{rank}").write_text(os.environ["SLURMD_NODENAME"])
with open("starts" + rank, "a") as log:
    log.write(os.environ["SLURM_JOB_ID"] + " " + os.environ["SLURMD_NODENAME"] + "\\n")
while not pathlib.Path("go").exists():
    time.sleep(0.2)
"""

COPIES = {"preempted": "ab", "evicted": "ab", "orphan": "a"}

GANG = """\
import os, pathlib, time
pathlib.Path("pid" + os.environ["RANK"]).write_text(f"{os.getpid()} {os.getppid()} {os.environ['SLURMD_NODENAME']}")
time.sleep(600)
"""


@pytest.fixture(scope="module")
def scenarios(slurm_cluster, tmp_path_factory):
    """Trainings that lose their nodes at the same time, two by preemption, one because its node dies; each takes a while."""
    with Scenarios(slurm_cluster, tmp_path_factory.mktemp("requeue")) as started:
        started.train("preempted", copies="ab", partition="low", extra="nodelist='node1'")
        started.train("evicted", copies="ab", partition="lowcancel", extra="nodelist='node1'")
        started.train("orphan", extra="exclude='node1,node4'")
        trainings = [main.folder / copy for name, main in started.mains.items() for copy in COPIES[name]]

        def listing() -> str:
            return f"all to train:\n{slurm_cluster.call('squeue').stdout}{slurm_cluster.call('sinfo', '-N').stdout}"

        wait_for(lambda: all(len(lines(folder / "epochs")) >= 2 for folder in trainings), 90, listing)
        taker = ["sbatch", "-p", "high", "-w", "node1", "-c", "4", "-t", "5", "-o", "/dev/null", "--wrap", "sleep 8"]
        assert slurm_cluster.call(*taker).returncode == 0
        ((_, node),) = starts(started["orphan"].folder / "a")
        slurm_cluster.kill_node(node)
        started.dead_node = node
        try:
            yield started
        finally:
            slurm_cluster.start_node(node)


def test_preemption_with_grace_and_by_cancel_ends_in_success(slurm_cluster, scenarios):
    for name in ("preempted", "evicted"):
        assert "Trying to restart" not in scenarios[name].succeeds()
    for folder in [scenarios[name].folder / copy for name in ("preempted", "evicted") for copy in "ab"]:
        assert len(starts(folder)) == 2
        assert repeated(folder) <= 1
        ids = {job_id for job_id, _ in starts(folder)}
        assert len(ids) == (1 if folder.parent.name == "preempted" else 2)
    assert scenarios["evicted"].output.count("lost its place (state PREEMPTED)") == 2


def test_a_node_that_dies_under_a_single_job_makes_slurm_start_it_elsewhere(slurm_cluster, scenarios):
    main = scenarios["orphan"]
    training = main.folder / "a"
    main.succeeds()
    (_, first), (_, second) = starts(training)
    assert first == scenarios.dead_node != second
    assert repeated(training) <= 1


def test_a_node_that_dies_under_a_rank_is_left_out_and_the_job_runs_elsewhere(slurm_cluster, scenarios):
    scenarios.start(
        "pair",
        f"""
        rule pair:
            output: touch("done")
            resources: nodes=2, tasks_per_node=1, mem_mb=100, exclude="{scenarios.dead_node}"
            shell: "spmd python pair.py"
        """,
        {"pair.py": PAIR},
    )
    main = scenarios["pair"]
    wait_for(lambda: (main.folder / "starts1").exists(), 90, "the second rank")
    node = (main.folder / "node1").read_text()
    slurm_cluster.kill_node(node)
    try:
        wait_for(lambda: "lost its place" in main.output, 30, "the verdict")
        wait_for(lambda: len(lines(main.folder / "starts1")) == 2, 90, "the new job")
        (main.folder / "go").touch()
        output = main.succeeds()
    finally:
        slurm_cluster.start_node(node)
    assert f"node {node} failed" in output
    starts = [line.split() for rank in "01" for line in lines(main.folder / f"starts{rank}")]
    second = max(starts, key=lambda start: int(start[0]))[0]
    assert node not in {where for job_id, where in starts if job_id == second}
    assert "Trying to restart" not in output


@pytest.mark.parametrize("victim", ["program", "task", "task_before_the_rendezvous"])
def test_a_rank_that_is_killed_takes_the_job_down_at_once_and_is_named(slurm_cluster, scenarios, victim):
    name = f"gang_{victim}"
    before = victim == "task_before_the_rendezvous"
    scenarios.start(
        name,
        f"""
        rule {name}:
            output: touch("done")
            resources: nodes=2, tasks_per_node=2, mem_mb=100, exclude="{scenarios.dead_node}"
            shell: "{"sleep 600;" if before else ""} spmd python gang.py"
        """,
        {"gang.py": GANG},
    )
    main = scenarios[name]
    if before:
        wait_for(lambda: slurm_cluster.processes(name, "sleep 600"), 90, "rank 0")
        task, node = slurm_cluster.processes(name, "submitit.core._submit", rank=2)[0]
        pid = task
    else:
        wait_for(lambda: len(list(main.folder.glob("pid*"))) == 4, 90, "all ranks")
        program, task, node = (main.folder / "pid2").read_text().split()
        pid = int(program if victim == "program" else task)
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not slurm_cluster.queue_of(name), 10, "the job to be down")
    output = main.fails(20 - (time.monotonic() - started))
    assert "rank 2 failed first" in output
    assert f"node {node}" in output
    assert "_2_log.out" in output
