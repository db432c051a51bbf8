"""Jobs that share the workers of a pool, when workers, nodes, the main process or Slurm fail; each job counts its own runs."""

import os
import re
import signal
import textwrap
import time
from pathlib import Path

import pytest

from slurm_lab.main_process import Main, lines, wait_for, write_snakefile
from snakemake_executor_plugin_submitit.tracking.cancelled import mark_cancelled
from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder, done_marker

# `n` counts its runs, waits for the file `go` if it is one of `slow`, and then writes its output
RULES = """
    slow = str(config.get("slow", "")).split()
    rule all:
        input: expand("{{n}}.txt", n=range({jobs}))
    rule job:
        output: "{{n}}.txt"
        params: waits=lambda wildcards: wildcards.n in slow
        resources: mem_mb=100, runtime={runtime}, pool="{pool}", slurm_partition="{partition}", {extra}
        shell:
            "echo $SLURM_JOB_ID $SLURMD_NODENAME $PPID >> {{wildcards.n}}.count;"
            " if [ {{params.waits}} = True ]; then while [ ! -e go ]; do sleep 0.2; done; fi; touch {{output}}"
"""


def begin(cluster, folder, *arguments, jobs=8, pool="1", runtime=5, partition="main", extra="", slow=""):
    write_snakefile(
        folder, textwrap.dedent(RULES).format(jobs=jobs, pool=pool, runtime=runtime, partition=partition, extra=extra)
    )
    config = ["--config", f"slow={slow}"] if slow else []
    return Main(cluster, folder, *arguments, *config)


def again(cluster, main, *arguments, slow=""):
    return Main(cluster, main.folder, *arguments, *(["--config", f"slow={slow}"] if slow else []))


def runs(main):
    """Return how often each job has run."""
    return {int(path.stem): len(lines(path)) for path in main.folder.glob("*.count")}


def all_once(jobs=8, **others):
    return dict.fromkeys(range(jobs), 1) | {int(n.removeprefix("n")): times for n, times in others.items()}


def workers(main):
    """Return the job ids of the workers that ran something."""
    return {line.split()[0] for path in main.folder.glob("*.count") for line in lines(path)}


def wait_for_runs(main, jobs):
    wait_for(lambda: set(runs(main)) >= set(jobs), 90, lambda: f"{jobs} to run, {runs(main)} did:\n{main.output}")


def worker_process(cluster, main):
    """Return PID and node of a worker."""
    ((pid, node),) = [
        (pid, node)
        for pid, node in cluster.processes("pool.job", "snakemake_executor_plugin_submitit.job.start")
        if Path(f"/proc/{pid}/cwd").readlink() == main.folder and os.getsid(pid) != pid
    ]
    return pid, node


def test_many_jobs_run_once_each_in_few_slurm_jobs(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, "--submitit-efficiency-report", jobs=30, pool="2")
    output = main.succeeds()
    assert runs(main) == all_once(30)
    assert re.search(r"^job +30 +0 ", output, re.MULTILINE), output
    assert re.search(r"^pool +[12] ", output, re.MULTILINE), output
    assert 1 <= len(workers(main)) <= 2
    assert not list((tmp_path / ".snakemake/submitit/registry").iterdir())
    wait_for(lambda: not slurm_cluster.queue_of("pool.job"), 15, "the workers to leave when the workflow has ended")


def test_a_worker_that_is_killed_fails_the_job_it_ran_and_no_other(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, "--keep-going", slow="3")
    wait_for_runs(main, [3])
    others_left = len(runs(main)) < 8  # jobs are queued in any order
    os.kill(worker_process(slurm_cluster, main)[0], signal.SIGKILL)
    (tmp_path / "go").touch()
    output = main.fails()
    assert runs(main) == all_once()
    assert [n for n in range(8) if not (tmp_path / f"{n}.txt").exists()] == [3]
    assert "job.3: slurm job" in output
    assert "killed by SIGKILL" in output
    assert len(workers(main)) == 1 + others_left


def test_a_worker_that_is_killed_with_several_jobs_has_each_run_again_by_itself(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, pool="1x3", slow="0 1 2")
    wait_for_runs(main, [0, 1, 2])
    os.kill(worker_process(slurm_cluster, main)[0], signal.SIGKILL)
    wait_for(lambda: "it runs again by itself" in main.output, 60, "the verdict")
    (tmp_path / "go").touch()
    output = main.succeeds()
    assert runs(main) == all_once(n0=2, n1=2, n2=2)
    assert output.count("it runs again by itself") == 3


def test_a_job_that_kills_its_own_process_fails_alone_and_the_worker_goes_on(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: expand("{n}.txt", n=range(6))
        rule job:
            output: "{n}.txt"
            resources: mem_mb=100, runtime=5, pool=1
            run:
                import os, signal
                shell("echo $SLURM_JOB_ID >> {wildcards.n}.count")
                if wildcards.n == "2":
                    os.kill(os.getpid(), signal.SIGSEGV)
                shell("touch {output}")
        """,
    )
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    output = main.fails()
    assert runs(main) == all_once(6)
    assert [n for n in range(6) if not (tmp_path / f"{n}.txt").exists()] == [2]
    assert "job.2: slurm job" in output
    assert "killed by SIGSEGV" in output
    assert len(workers(main)) == 1


def test_a_job_that_takes_more_than_its_share_of_memory_fails_and_no_other(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: expand("{n}.txt", n=range(6)), "tiny.txt"
        rule tiny:
            output: "tiny.txt"
            resources: mem_mb=5, runtime=5, pool="1x3"  # less than Snakemake itself takes
            shell: "sleep 3; touch {output}"
        rule job:
            output: "{n}.txt"
            resources: mem_mb=300, runtime=5, pool="1x3"
            shell:
                "echo $SLURM_JOB_ID >> {wildcards.n}.count;"
                " if [ {wildcards.n} = 2 ]; then python3 -c 'import time; a = bytearray(500 << 20); time.sleep(60)'; fi;"
                " sleep 3; touch {output}"
        """,
    )
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    output = main.fails()
    assert runs(main) == all_once(6)
    assert [n for n in range(6) if not (tmp_path / f"{n}.txt").exists()] == [2]
    assert (tmp_path / "tiny.txt").exists()
    assert "state OUT_OF_MEMORY" in output
    assert "raise mem_mb" in output


def test_memory_that_slurm_enforces_fails_the_job_that_took_it_and_no_other(bare_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: expand("{n}.txt", n=range(4))
        rule job:
            output: "{n}.txt"
            resources: mem_mb=100, runtime=5, pool=1
            shell:
                "echo $SLURM_JOB_ID >> {wildcards.n}.count;"
                " if [ {wildcards.n} = 2 ]; then python3 -c 'import time; a = bytearray(900 << 20); time.sleep(60)'; fi;"
                " touch {output}"
        """,
    )
    main = Main(bare_cluster, tmp_path, "--keep-going")
    output = main.fails()
    assert runs(main) == all_once(4)
    assert [n for n in range(4) if not (tmp_path / f"{n}.txt").exists()] == [2]
    assert "OUT_OF_MEMORY" in output


@pytest.mark.parametrize("partition", ["low", "lowcancel", "lowhard"])
def test_preemption_has_the_jobs_run_again_without_using_up_a_retry(slurm_cluster, tmp_path, partition):
    main = begin(slurm_cluster, tmp_path, partition=partition, slow="2", extra="nodelist='node2'")
    wait_for_runs(main, [2])
    taker = ["sbatch", "-p", "high", "-w", "node2", "-c", "4", "-t", "5", "-o", "/dev/null", "--wrap", "sleep 4"]
    assert slurm_cluster.call(*taker).returncode == 0
    wait_for(lambda: runs(main)[2] == 2, 120, lambda: f"job 2 to run again:\n{main.output}{slurm_cluster.call('squeue').stdout}")
    (tmp_path / "go").touch()
    output = main.succeeds()
    assert runs(main) == all_once(n2=2)
    assert "Trying to restart" not in output


def test_a_node_that_dies_under_a_worker_has_its_job_run_elsewhere(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, slow="2", extra="exclude='node1,node2'")
    wait_for_runs(main, [2])
    _, node = worker_process(slurm_cluster, main)
    slurm_cluster.kill_node(node)
    try:
        wait_for(lambda: runs(main)[2] == 2, 120, lambda: f"job 2 to run again:\n{main.output}")
        (tmp_path / "go").touch()
        main.succeeds()
    finally:
        slurm_cluster.start_node(node)
    assert runs(main) == all_once(n2=2)
    first, second = (line.split()[1] for line in lines(tmp_path / "2.count"))
    assert first == node != second


def test_after_a_kill_of_the_main_process_each_job_has_run_once(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, jobs=12, pool="1x2", slow="2 3")
    wait_for_runs(main, [2, 3])
    main.kill()
    main = again(slurm_cluster, main, slow="2 3")
    wait_for(lambda: main.output.count("adopted slurm job") == 2, 60, lambda: f"the adoption:\n{main.output}")
    (tmp_path / "go").touch()
    main.succeeds()
    assert runs(main) == all_once(12)
    assert not list((tmp_path / ".snakemake/submitit/registry").iterdir())


def test_workers_go_on_without_a_main_process_and_their_work_is_accepted(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, jobs=12, pool="1", slow="2")
    wait_for_runs(main, [2])
    main.kill()
    (tmp_path / "go").touch()
    wait_for(lambda: len(list(tmp_path.glob("*.txt"))) == 12, 60, "the worker to run the whole queue")
    wait_for(lambda: not slurm_cluster.queue_of("pool.job"), 60, "it to leave")
    output = again(slurm_cluster, main, slow="2").succeeds()
    assert runs(main) == all_once(12)
    assert "finished while Snakemake was away" in output


def test_a_restart_of_the_controller_is_not_noticed(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, pool="1", slow="4")
    wait_for_runs(main, [4])
    slurm_cluster.kill("slurmctld")
    time.sleep(8)
    (tmp_path / "go").touch()
    time.sleep(2)
    slurm_cluster.start_controller()
    main.succeeds()
    assert runs(main) == all_once()
    wait_for(lambda: slurm_cluster.call("sinfo", "-h", "-t", "idle", "-o", "%D").stdout.split()[:1] == ["4"], 60, "idle nodes")


def test_cancelling_a_worker_by_hand_fails_what_it_ran_and_no_other(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, "--keep-going", slow="2")
    wait_for_runs(main, [2])
    slurm_cluster.call("scancel", *slurm_cluster.queue_of("pool.job"))
    (tmp_path / "gone").touch()
    output = main.fails()
    assert runs(main) == all_once()
    assert [n for n in range(8) if not (tmp_path / f"{n}.txt").exists()] == [2]
    assert "state CANCELLED" in output


def test_interrupting_the_main_process_stops_workers_and_jobs_and_starts_nothing_more(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, jobs=12, pool="2", slow=" ".join(map(str, range(12))))
    wait_for(lambda: len(runs(main)) == 2, 90, "two jobs to run")
    main.interrupt()
    wait_for(lambda: not slurm_cluster.queue_of("pool.job"), 15, "the queue to be empty")
    assert len(runs(main)) == 2
    assert not slurm_cluster.processes("pool.job", "")
    assert not list((tmp_path / ".snakemake/submitit/registry").iterdir())
    (tmp_path / "go").touch()
    again(slurm_cluster, main, slow="0").succeeds()
    assert sorted(runs(main).values()) == [1] * 10 + [2] * 2


def test_detaching_leaves_the_workers_and_the_same_command_adopts_their_jobs(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, "--submitit-detach", jobs=4, slow="0")
    wait_for_runs(main, [0])
    main.interrupt()
    assert "jobs are left running" in main.output
    main = again(slurm_cluster, main, slow="0")
    wait_for(lambda: "job.0: adopted slurm job" in main.output, 60, "the adoption")
    (tmp_path / "go").touch()
    main.succeeds()
    assert runs(main) == all_once(4)


def test_a_job_that_the_user_takes_out_of_its_pool_fails_without_a_retry_and_no_other_does(slurm_cluster, tmp_path):
    main = begin(slurm_cluster, tmp_path, "--keep-going", "--retries", "2", slow="2")
    wait_for_runs(main, [2])
    (job_dir,) = (path.resolve() for path in tmp_path.glob(".snakemake/submitit/job.2/latest"))
    (pool,) = tmp_path.glob(".snakemake/submitit/pools/*")
    mark_cancelled(job_dir)
    assert TicketFolder(pool).revoke(done_marker(job_dir))
    main.fails()
    assert runs(main) == all_once()
    assert [n for n in range(8) if not (tmp_path / f"{n}.txt").exists()] == [2]
    assert len(workers(main)) == 1
