"""Pools on this machine, with plain rules."""

import json
import os

import pytest

from slurm_lab.main_process import lines, write_snakefile
from slurm_lab.running import snakemake

pytestmark = pytest.mark.slow
RULES = """
    rule all:
        input: expand("{n}.txt", n=range(6))
    rule job:
        output: "{n}.txt"
        log: "{n}.log"
        resources: mem_mb=100, pool="%s"
        shell:
            "echo $PPID $OMP_NUM_THREADS [$CUDA_VISIBLE_DEVICES] $(umask) >> {wildcards.n}.count; echo made > {output} 2> {log}"
"""


def results(folder):
    return sorted(folder.glob(".snakemake/submitit/job.*/latest/result.json"))


def test_jobs_of_a_pool_run_once_each_with_their_log_and_what_they_used(tmp_path):
    write_snakefile(tmp_path, RULES % "2x2")
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode == 0, done.stdout
    starts = [lines(tmp_path / f"{n}.count") for n in range(6)]
    assert [len(each) for each in starts] == [1] * 6
    assert {each[0].split(maxsplit=1)[1] for each in starts} == {f"1 [] {os.umask(os.umask(0o22)):04o}"}
    found = [json.loads(path.read_text()) for path in results(tmp_path)]
    assert len(found) == 6
    assert len({result["worker"] for result in found}) <= 2
    assert all(0 < result["usage"]["cpu_s"] < 60 and result["usage"]["peak_mb"] > 10 for result in found)
    assert all("Starting with worker" in (path.parent / "pool_0_log.out").read_text() for path in results(tmp_path))
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in (tmp_path / ".snakemake/submitit").rglob("*") if not path.is_symlink()
    )
    assert "Nothing to be done" in snakemake(tmp_path, cluster="local").stdout


def test_a_failing_job_shows_its_log_and_its_retry_has_more_memory(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule grows:
            output: "out.txt"
            resources: mem_mb=lambda wildcards, attempt: 100 * attempt, pool=1
            shell: "echo the reason; echo {resources.mem_mb} >> seen; test {resources.mem_mb} -ge 200 && touch {output}"
        """,
    )
    done = snakemake(tmp_path, "--retries", "2", cluster="local")
    assert done.returncode == 0, done.stdout
    assert lines(tmp_path / "seen") == ["100", "200"]
    assert "the reason" in done.stdout
    assert "grows: local job" in done.stdout


def test_a_job_of_several_ranks_runs_by_itself(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule ranks:
            output: "out.txt"
            resources: tasks_per_node=2, pool=2
            shell: "spmd sh -c 'echo $WORLD_SIZE > {output}'"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode == 0, done.stdout
    assert lines(tmp_path / "out.txt") == ["2"]
    assert "ranks: resource pool=2 is not used because the job has several ranks and runs by itself" in done.stdout
    assert not (tmp_path / ".snakemake/submitit/pools").exists()


def test_a_module_that_is_changed_while_a_worker_has_it_loaded_runs_as_it_is_now(tmp_path):
    (tmp_path / "helper.py").write_text("text = 'old'\n")
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "second.txt"
        rule first:
            output: "first.txt"
            resources: mem_mb=100, pool=1
            run:
                import helper
                shell("echo {helper.text} > {output}; echo 'text = \\"new\\"' > helper.py")
        rule second:
            input: "first.txt"
            output: "second.txt"
            resources: mem_mb=100, pool=1
            run:
                import helper
                shell("echo {helper.text} > {output}")
        """,
    )
    done = snakemake(tmp_path, "--submitit-pool-preload", "helper", cluster="local", PYTHONPATH=_with(tmp_path))
    assert done.returncode == 0, done.stdout
    assert lines(tmp_path / "first.txt") == ["old"]
    assert lines(tmp_path / "second.txt") == ["new"]
    logs = [path.read_text() for path in tmp_path.glob(".snakemake/submitit/pool.*/[0-9]*/*_0_log.out")]
    assert sum("a loaded file was changed" in text for text in logs) == 1
    assert not any("cannot be loaded" in text for text in logs)


PRELOADED = """
import os, sys, types
much = b"much" * (100 << 20)
random = sys.modules["numpy.random"] = types.ModuleType("numpy.random")
random.state = 0
random.seed = lambda: setattr(random, "state", os.getpid())
"""
"""A module that takes 400 MB, and stands for a numpy whose generator is loaded."""


def test_jobs_share_preloaded_memory_without_paying_for_it_and_draw_other_numbers(tmp_path):
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "1.txt", "2.txt"
        rule job:
            output: "{n}.txt"
            resources: mem_mb=100, pool="1x2"
            run:
                import sys, time
                time.sleep(3)
                open(output[0], "w").write(f'{sys.modules["numpy.random"].state}')
        """,
    )
    done = snakemake(tmp_path, "--submitit-pool-preload", "preloaded", cluster="local", PYTHONPATH=_with(tmp_path))
    assert done.returncode == 0, done.stdout
    first, second = (int(*lines(tmp_path / f"{n}.txt")) for n in (1, 2))
    assert 0 != first != second != 0


def _with(folder):
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
