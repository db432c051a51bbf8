"""Parts of Slurm that give no answer for a while. SLURM_TEST_OUTAGE_S sets how long: 60 for the figure in the documentation."""

import os
import shutil
import time

import pytest

from slurm_lab.main_process import Main, lines, wait_for, write_program, write_snakefile

OUTAGE_S = float(os.environ.get("SLURM_TEST_OUTAGE_S", "8"))

WAITING = """
    rule all:
        input: expand("{n}.txt", n=range(6))
    rule work:
        output: "{n}.txt"
        resources: mem_mb=100, runtime=20
        shell: "echo x >> {wildcards.n}.count; while [ ! -e go{wildcards.n} ]; do sleep 0.2; done; touch {output}"
"""

EIGHT = """
    rule all:
        input: expand("{n}.txt", n=range(8))
    rule mixed:
        output: "{n}.txt"
        resources: mem_mb=100
        shell: "bash mixed.sh {wildcards.n} {output}"
"""

# 0, 2, 4, 6 end well, after different times; 1 fails, 3 kills itself, 5 is cancelled, 7 forgets its output
MIXED = """\
echo $SLURM_ARRAY_JOB_ID >> $1.count
case $1 in
    1) exit 3 ;;
    3) kill -9 $$ ;;
    5) scancel ${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}; sleep 60 ;;
    7) exit 0 ;;
esac
sleep $1
touch $2
"""


@pytest.fixture(scope="module", autouse=True)
def _no_ghosts(slurm_cluster):
    """A slurmctld that is killed forgets what it has not saved: jobs that had just ended "run" for minutes."""
    yield
    slurm_cluster.call("scancel", "-u", "root")
    wait_for(lambda: not slurm_cluster.queue(), 60, "the queue to be empty")


def started(folder):
    return {path.stem: len(lines(path)) for path in folder.glob("*.count")}


def test_an_array_of_mixed_jobs_gets_eight_right_verdicts(slurm_cluster, tmp_path):
    write_snakefile(tmp_path, EIGHT)
    (tmp_path / "mixed.sh").write_text(MIXED)
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    output = main.fails(120)
    assert "8 jobs as array" in output
    assert len({lines(path)[0] for path in tmp_path.glob("*.count")}) == 1
    assert started(tmp_path) == {str(n): 1 for n in range(8)}
    assert sorted(path.name for path in tmp_path.glob("[0-9].txt")) == ["0.txt", "2.txt", "4.txt", "6.txt"]
    for n, sign in {1: "exit status", 3: "exit status", 5: "state CANCELLED", 7: "exit status"}.items():
        (verdict,) = [line for line in output.splitlines() if f"mixed.{n}: slurm job" in line]
        assert sign in verdict
    assert "4 of 9 steps (44%) done" in output


def test_no_job_is_lost_or_made_twice_while_parts_of_slurm_are_away(slurm_cluster, tmp_path):
    write_snakefile(tmp_path, WAITING)
    broken = tmp_path / "broken"
    refuse = f'[ -e broken ] && echo "squeue: error: no answer" >&2 && exit 1\nexec {shutil.which("squeue")} "$@"\n'
    programs = write_program(tmp_path / "bin", "squeue", "#!/bin/bash\n" + refuse)

    wait_for(lambda: not slurm_cluster.queue(), 60, "jobs of other tests to end")
    slurm_cluster.kill("slurmctld")  # sbatch is refused
    main = Main(slurm_cluster, tmp_path, "--keep-going", path=programs)
    wait_for(lambda: "Slurm takes no jobs now" in main.output, 60, "a refusal")
    time.sleep(OUTAGE_S)
    slurm_cluster.start_controller()
    wait_for(lambda: len(started(tmp_path)) == 6, 120, "all jobs to run")

    slurm_cluster.kill("slurmdbd")  # accounting and squeue are down; a job ends, another is cancelled
    broken.touch()
    (tmp_path / "go0").touch()
    (log,) = (tmp_path / ".snakemake/submitit/work.1/latest").glob("*_0_log.out")
    slurm_cluster.call("scancel", log.name.removesuffix("_0_log.out"))
    time.sleep(OUTAGE_S)
    broken.unlink()
    slurm_cluster.start_accounting()
    wait_for(lambda: "work.1: slurm job" in main.output, 60, "the verdict")

    (tmp_path / "go2").touch()
    slurm_cluster.kill("slurmctld")  # in mid-run; a job ends meanwhile, another soon after
    (tmp_path / "go3").touch()
    time.sleep(OUTAGE_S)
    slurm_cluster.start_controller()
    for n in (4, 5):
        (tmp_path / f"go{n}").touch()
    output = main.fails(120)
    assert started(tmp_path) == {str(n): 1 for n in range(6)}
    assert sorted(path.name for path in tmp_path.glob("[0-9].txt")) == ["0.txt", "2.txt", "3.txt", "4.txt", "5.txt"]
    assert "state CANCELLED" in output
    assert [line for line in output.splitlines() if line.startswith("Error in rule")] == ["Error in rule work:"]
