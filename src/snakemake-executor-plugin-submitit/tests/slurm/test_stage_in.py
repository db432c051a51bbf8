"""Inputs on the nodes' own disks: folders that are named after the nodes, which really share one machine."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from slurm_lab.main_process import Main, lines, wait_for, write_snakefile

RULES = """
    rule all:
        input: expand("{n}.txt", n=range(8))
    rule reads:
        input: data="shared/data.bin"
        output: "{n}.txt"
        resources: mem_mb=100, stage_in="data", nodelist=lambda wildcards: f"node{int(wildcards.n) % 2 + 1}"
        shell: "realpath {input.data} > {output}; sha256sum < {input.data} >> {output}"
"""
SCRATCH = "$SCRATCH/$SLURMD_NODENAME"


@pytest.fixture
def workflow(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/data.bin").write_bytes(os.urandom(4 << 20))
    (tmp_path / "nodes").mkdir(mode=0o700)
    write_snakefile(tmp_path, RULES)
    return tmp_path


def run(cluster, folder, *arguments):
    return Main(cluster, folder, "--submitit-stage-in-folder", SCRATCH, *arguments, SCRATCH=str(folder / "nodes"))


def logs(folder):
    return "".join(path.read_text() for path in sorted(folder.glob(".snakemake/submitit/reads.*/latest/*_log.out")))


def sources(folder):
    return [Path(lines(folder / f"{n}.txt")[0]) for n in range(8)]


def test_eight_jobs_on_two_nodes_copy_once_on_each_and_a_changed_original_again(slurm_cluster, workflow):
    run(slurm_cluster, workflow).succeeds()
    assert logs(workflow).count("copied to") == 2
    assert len({path.parents[2].name for path in sources(workflow)}) == 2, "node1 and node2"
    assert len(set(sources(workflow))) == 2
    run(slurm_cluster, workflow, "--forceall").succeeds()
    assert logs(workflow).count("copied to") == 0, "these logs are of the second run"
    (workflow / "shared/data.bin").write_bytes(os.urandom(1 << 20))
    run(slurm_cluster, workflow, "--forceall").succeeds()
    assert logs(workflow).count("copied to") == 2
    (digest,) = {lines(workflow / f"{n}.txt")[1] for n in range(8)}
    assert len(digest.split()[0]) == 64


def test_ranks_on_two_nodes_read_the_same_path_each_from_its_own_disk(slurm_cluster, workflow):
    write_snakefile(
        workflow,
        """
        rule ranks:
            input: data="shared/data.bin"
            output: "out.txt"
            resources: nodes=2, tasks_per_node=2, mem_mb=200, stage_in="data"
            shell: "spmd sh -c 'realpath {input.data} > $RANK.path; echo {input.data} > $RANK.given'; touch {output}"
        """,
    )
    scratch = workflow / "nodes/common"
    Main(slurm_cluster, workflow, "--submitit-stage-in-folder", str(scratch)).succeeds()
    assert len({(workflow / f"{rank}.given").read_text() for rank in range(4)}) == 1
    assert all(Path((workflow / f"{rank}.path").read_text().strip()).is_relative_to(scratch) for rank in range(4))
    wait_for(lambda: list((next(scratch.iterdir()) / "links").iterdir()) == [], 30, "the end of the links")


def test_where_the_disk_is_full_jobs_read_the_original(slurm_cluster, workflow):
    small = workflow / "nodes"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "none", small], check=True)
    try:
        run(slurm_cluster, workflow).succeeds()
        assert logs(workflow).count("is read from where it is") == 8
        assert set(sources(workflow)) == {workflow / "shared/data.bin"}
    finally:
        subprocess.run(["umount", small], check=True)


def copying(folder):
    """Processes that write a copy."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith(str(folder)) and ".partial/" in target:
                yield int(link.parts[2])


def test_a_killed_copy_is_made_again_by_the_next_job(slurm_cluster, workflow):
    (workflow / "shared/data.bin").write_bytes(os.urandom(1 << 20) * 300)
    memory = ("--set-resources", "reads:mem_mb=400")
    main = run(slurm_cluster, workflow, "--retries", "1", *memory)
    killed = []
    wait_for(lambda: killed.extend(copying(workflow / "nodes")) or killed != [], 60, "a copy that is being made")
    os.kill(killed[0], signal.SIGKILL)
    main.succeeds()
    assert len(set(sources(workflow))) == 2 and all(path.is_relative_to(workflow / "nodes") for path in sources(workflow))
    assert len({lines(workflow / f"{n}.txt")[1] for n in range(8)}) == 1
    assert list((workflow / "nodes").glob("*/*/.*.partial")) == []
