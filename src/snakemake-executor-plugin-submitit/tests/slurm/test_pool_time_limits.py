"""Time limits of the workers of pools and of the jobs in them, which Slurm counts in minutes; both workflows run at once."""

import pytest

from slurm_lab.main_process import Main, lines, write_snakefile

LONG_QUEUE = """
    rule all:
        input: expand("{n}.txt", n=range(8))
    rule short:
        output: "{n}.txt"
        resources: mem_mb=100, runtime=1, pool=1
        shell: "echo $SLURM_JOB_ID >> {wildcards.n}.count; sleep 12; touch {output}"
"""
TOO_SLOW = """
    rule all:
        input: expand("{n}.txt", n=range(4))
    rule slow:
        output: "{n}.txt"
        resources: mem_mb=100, runtime=1, max_requeues=1, pool="1x2"
        shell:
            "echo $SLURM_JOB_ID >> {wildcards.n}.count;"
            " if [ {wildcards.n} = 0 ]; then trap 'echo stopped >> stopped; exit 1' TERM; sleep 600 & wait; fi; touch {output}"
"""


@pytest.fixture(scope="module")
def mains(slurm_cluster, tmp_path_factory):
    """Start both workflows."""
    started = {}
    for name, rules in (("queue", LONG_QUEUE), ("slow", TOO_SLOW)):
        folder = tmp_path_factory.mktemp(name)
        write_snakefile(folder, rules)
        started[name] = Main(slurm_cluster, folder, "--keep-going", "--submitit-pool-minutes", "1")
    return started


def test_a_worker_starts_nothing_that_its_time_does_not_suffice_for_and_a_fresh_one_does(mains):
    mains["queue"].succeeds(400)
    starts = [lines(mains["queue"].folder / f"{n}.count") for n in range(8)]
    assert [len(each) for each in starts] == [1] * 8
    assert len({job_id for each in starts for job_id in each}) >= 2


def test_a_job_that_reaches_its_own_limit_is_stopped_and_starts_again_as_often_as_allowed(mains):
    main = mains["slow"]
    output = main.fails(400)
    assert [len(lines(main.folder / f"{n}.count")) for n in range(4)] == [2, 1, 1, 1]
    assert lines(main.folder / "stopped") == ["stopped"] * 2
    assert "state TIMEOUT (the time limit was reached 2 times)" in output
    assert "raise runtime" in output
