"""The spare process that becomes the command of a job in a pool."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_lab.main_process import lines, write_snakefile
from slurm_lab.running import snakemake
from snakemake_executor_plugin_submitit.worker.spare import PREFIX, Processes, Spare, SpareProcess, loaded_programs, plain_words

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
THREADS = {"OMP_NUM_THREADS": "1"}
PROGRAMS = {"tabulate": "json:tool"}  # a script of this environment, with a function that a test sets


def end_as_python(function):
    """Simpler than a worker's: ends this process with the function's exit status."""
    try:
        function()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code)
    except BaseException:
        os._exit(99)
    os._exit(0)


@pytest.fixture
def spare(monkeypatch, tmp_path):
    def made(function):
        monkeypatch.setattr("json.tool", function, raising=False)
        return Spare(PROGRAMS, THREADS, end_as_python)

    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the worker's own, while its libraries were loaded with 1
    monkeypatch.chdir(tmp_path)
    return made


def environment(**extra):
    return {**os.environ, "PATH": PATH, **THREADS, **extra}


def note():
    Path("note").write_text(f"{sys.argv[1:]} {os.environ['SOME']} {sys.modules['__main__'].__file__}")
    return 3


def test_it_becomes_a_plain_command_with_its_words_environment_and_directory(spare, tmp_path):
    waiting = spare(note)
    words = ["tabulate", "a b", "it's", "--x=1"]
    assert waiting.start(f"{PREFIX}spmd {shlex.join(words)}", environment(SOME="thing"))
    assert SpareProcess(waiting.pid).wait() == 3
    assert (tmp_path / "note").read_text() == f"{words[1:]} thing {Path(sys.executable).parent / 'tabulate'}"


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        pytest.param("spmd tabulate > out", {}, id="redirection"),
        pytest.param(f"tabulate {'/a_long_folder' * 9}/a_long_name.tsv > out", {}, id="redirection of a long name"),
        pytest.param("tabulate $HOME", {}, id="variable"),
        pytest.param("tabulate *", {}, id="pattern"),
        pytest.param("tabulate a; tabulate b", {}, id="two"),
        pytest.param("tabulate a\ntabulate b", {}, id="two lines"),
        pytest.param('tabulate "a"', {}, id="double quotes"),
        pytest.param("A=1 tabulate", {}, id="assignment"),
        pytest.param("pytest", {}, id="not loaded"),
        pytest.param("spmd", {}, id="nothing"),
        pytest.param("tabulate a", {"OMP_NUM_THREADS": "2"}, id="threads"),
        pytest.param("tabulate a", {"PYTHONHASHSEED": "1"}, id="variable of Python"),
        pytest.param("tabulate a", {"PATH": "/usr/bin:/bin"}, id="another environment"),
    ],
)
def test_any_other_command_is_left_to_bash(spare, command, extra):
    waiting = spare(note)
    assert not waiting.start(command, environment(**extra))
    assert waiting.start("tabulate", environment(SOME="end"))
    SpareProcess(waiting.pid).wait()


def test_it_runs_one_command_and_bash_the_next(spare):
    processes = Processes(spare(note))
    first, second = (processes.Popen("spmd tabulate", shell=True, env=environment(SOME=name)) for name in "ab")
    assert first.wait() == 3 and isinstance(first, SpareProcess)
    assert isinstance(second, subprocess.Popen) and second.wait() != 3
    assert Path("note").read_text().startswith("[] a ")


def test_a_signal_ends_it_and_is_its_status(spare):
    waiting = spare(lambda: os.kill(os.getpid(), 9))
    assert waiting.start("tabulate", environment(SOME="a"))
    assert SpareProcess(waiting.pid).wait() == -9


def test_it_ends_with_the_process_that_it_waits_for(spare):
    waiting = spare(note)
    waiting._connection.close()
    assert SpareProcess(waiting.pid).wait() == 0
    assert not Path("note").exists()


def test_programs_are_those_of_the_packages_that_were_asked_for():
    import snakemake.cli
    import tabulate

    assert {snakemake.cli, tabulate} <= set(sys.modules.values())
    assert loaded_programs(["tabulate"]) == {"tabulate": "tabulate:_main"}
    assert loaded_programs([]) == {}


def test_words_are_those_that_a_shell_would_find():
    assert plain_words(f"{PREFIX}  spmd a 'b  c' 'it'\"'\"'s' --d=1,2 ") == ["spmd", "a", "b  c", "it's", "--d=1,2"]


@pytest.mark.slow
def test_the_command_of_a_rule_runs_in_it_and_its_failure_is_that_of_the_job(tmp_path):
    (tmp_path / "table.txt").write_text("1 2\n")
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "plain.txt", "redirected.txt", "failing.txt"
        rule plain:
            input: "table.txt"
            output: "plain.txt"
            benchmark: "plain.tsv"
            resources: mem_mb=100, pool=1
            shell: "spmd tabulate -o {output} {input}"
        rule redirected:
            input: "table.txt"
            output: "redirected.txt"
            resources: mem_mb=100, pool=1
            shell: "spmd tabulate {input} > {output}"
        rule failing:
            input: "table.txt"
            output: "failing.txt"
            resources: mem_mb=100, pool=1
            shell: "spmd tabulate --no-such-option {input}"
        """,
    )
    done = snakemake(tmp_path, "--keep-going", "--submitit-pool-preload", "tabulate", cluster="local")
    assert done.returncode != 0
    assert lines(tmp_path / "plain.txt") == lines(tmp_path / "redirected.txt")
    assert any(line.split() == ["1", "2"] for line in lines(tmp_path / "plain.txt"))
    assert "failing: local job" in done.stdout and not (tmp_path / "failing.txt").exists()
    folder = tmp_path / ".snakemake/submitit"
    logs = {name: (folder / name / "latest/pool_0_log.out").read_text() for name in ("plain", "redirected", "failing")}
    said = "tabulate: its modules are those that the worker has loaded"
    assert {name: said in log for name, log in logs.items()} == {"plain": True, "redirected": False, "failing": True}
    assert lines(tmp_path / "plain.tsv")[1].split("\t")[0] != "NA"
