"""The executor on a real Slurm cluster, with plain rules that know nothing of spikedistill."""

import json
import os
import re
import signal
import subprocess

from slurm_lab.main_process import Main, wait_for, write_snakefile
from slurm_lab.running import environment, snakemake

RANK_PROGRAM = """\
import json, os, pathlib
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURMD_NODENAME")
pathlib.Path("rank" + os.environ["RANK"]).write_text(json.dumps({n: os.environ[n] for n in names}))
"""


def test_every_job_is_a_slurm_job_with_what_it_asked_for(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule last:
            input: "0.txt", "1.txt"
            output: "all.txt"
            shell: "cat {input} > {output}"
        rule part:
            output: "{n}.txt"
            resources: mem_mb=123, runtime=7, slurm_partition="other"
            shell: "scontrol show job ${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}} > {output}"
        """,
    )
    done = snakemake(tmp_path, cluster="slurm", **slurm_cluster.environment)
    assert done.returncode == 0, done.stdout
    shown = (tmp_path / "all.txt").read_text()
    assert shown.count("Partition=other") == 2
    assert shown.count("TimeLimit=00:07:00") == 2
    assert shown.count("MinMemoryNode=123M") == 2
    ids = [word.removeprefix("JobId=") for word in shown.split() if word.startswith("JobId=")]
    jobs = slurm_cluster.completed_jobs(ids)
    assert [jobs[job_id]["JobName"] for job_id in ids] == ["part", "part"]  # of one array


def test_a_job_on_two_nodes_runs_the_command_on_every_rank(slurm_cluster, tmp_path):
    (tmp_path / "rank.py").write_text(RANK_PROGRAM)
    write_snakefile(
        tmp_path,
        """
        rule ranks:
            output: touch("done")
            resources: nodes=2, tasks_per_node=2, mem_mb=100
            shell: "spmd python rank.py"
        """,
    )
    done = snakemake(tmp_path, cluster="slurm", **slurm_cluster.environment)
    assert done.returncode == 0, done.stdout
    ranks = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(4)]
    assert [(r["RANK"], r["LOCAL_RANK"], r["NODE_RANK"]) for r in ranks] == [
        ("0", "0", "0"),
        ("1", "1", "0"),
        ("2", "0", "1"),
        ("3", "1", "1"),
    ]
    assert len({r["SLURMD_NODENAME"] for r in ranks}) == 2
    assert len({(r["MASTER_ADDR"], r["MASTER_PORT"]) for r in ranks}) == 1


def test_a_rank_that_fails_stops_all_and_is_named_with_node_and_log(slurm_cluster, tmp_path):
    (tmp_path / "fail.py").write_text(
        "import os, time\n"
        "if os.environ['RANK'] == '3':\n"
        "    print('rank three says why', flush=True)\n"
        "    raise SystemExit(7)\n"
        "time.sleep(600)\n"
    )
    write_snakefile(
        tmp_path,
        """
        rule broken:
            output: "never"
            resources: nodes=2, tasks_per_node=2, mem_mb=100
            shell: "spmd python fail.py"
        """,
    )
    done = snakemake(tmp_path, cluster="slurm", **slurm_cluster.environment)
    assert done.returncode != 0
    assert "rank 3 failed first" in done.stdout
    assert "node node" in done.stdout
    assert "rank three says why" in done.stdout
    assert "_3_log.out" in done.stdout
    wait_for(lambda: any(j["JobName"] == "broken" and j["State"] == "FAILED" for j in slurm_cluster.jobs()), 60)


def test_a_partition_that_is_not_there_is_named_in_slurms_words(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule lost:
            output: "never"
            resources: slurm_partition="nowhere"
            shell: "touch {output}"
        """,
    )
    done = snakemake(tmp_path, cluster="slurm", **slurm_cluster.environment)
    assert done.returncode != 0
    assert "lost: the job was refused" in done.stdout
    assert "invalid partition specified: nowhere" in done.stdout


def test_a_job_cancelled_by_hand_and_a_task_that_was_killed_are_noticed_with_the_reason(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "0.doomed", "1.doomed", "shot"
        rule doomed:
            output: "{n}.doomed"
            resources: licenses="toolbox:4"  # all that there are: one waits
            shell: "sleep 600"
        rule shot:
            output: "shot"
            resources: mem_mb=234
            shell: "sleep 600"
        """,
    )
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    wait_for(lambda: sorted(slurm_cluster.queue_of("doomed", "%T")) == ["PENDING", "RUNNING"], 60, "the jobs")
    slurm_cluster.call("scancel", "-n", "doomed", "-t", "PENDING")
    wait_for(lambda: "state CANCELLED" in main.output, 30, "the verdict on a task of an array that never ran")
    slurm_cluster.call("scancel", "-n", "doomed")
    wait_for(lambda: slurm_cluster.processes("shot", "sleep 600"), 60, "the other job to run")
    ((task, _),) = slurm_cluster.processes("shot", "snakemake_executor_plugin_submitit.job.start")
    os.kill(task, signal.SIGKILL)
    output = main.fails(60)
    assert output.count("state CANCELLED") == 2
    assert "failed, killed by SIGKILL" in output
    assert "hint: SIGKILL often means out of memory: 234 MB were requested (mem_mb)" in output


def test_interrupting_the_main_process_empties_the_queue_and_leaves_no_orphan(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: expand("{n}.txt", n=range(50))
        rule stuck:
            output: "{n}.txt"
            resources: mem_mb=100
            shell: "sleep 600"
        """,
    )
    main = Main(slurm_cluster, tmp_path)

    def states() -> list[str]:
        return slurm_cluster.queue_of("stuck", "%T")

    wait_for(lambda: len(states()) == 50 and "RUNNING" in states() and "PENDING" in states(), 120, "50 jobs")
    wait_for(lambda: slurm_cluster.processes("stuck", "sleep 600"), 60, "a command to run")
    wait_for(lambda: re.search(r"waiting in Slurm's queue, reason \w+ \(\w", main.output), 30, "why jobs wait")
    main.interrupt()
    wait_for(lambda: not states(), 15, "the queue to be empty")
    assert not slurm_cluster.processes("stuck", "")
    assert not list((tmp_path / ".snakemake/submitit/registry").iterdir())
    arrays = list((tmp_path / ".snakemake/submitit/arrays").glob("[0-9]*"))
    assert len(arrays) > 1, "50 jobs are more than one array may have here"
    assert all(list(folder.glob("*_submission.sh")) for folder in arrays), "of refused arrays nothing is left"


def test_the_main_process_may_itself_run_in_a_job(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule ranks:
            output: touch("done")
            resources: nodes=2, mem_mb=100
            shell: "spmd bash -c 'echo $WORLD_SIZE $CUDA_VISIBLE_DEVICES > rank$RANK'"
        """,
    )
    main = ["sbatch", "-W", "-n", "3", "-c", "1", "-o", "main.out", "--wrap", "snakemake --executor submitit --jobs 2"]
    done = subprocess.run(main, cwd=tmp_path, env=environment(**slurm_cluster.environment))
    assert done.returncode == 0, (tmp_path / "main.out").read_text()
    assert [(tmp_path / f"rank{rank}").read_text().strip() for rank in (0, 1)] == ["2", "2"]
