"""The executor on this machine, with plain rules that know nothing of spikedistill."""

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from slurm_lab.main_process import Main, wait_for, write_snakefile
from slurm_lab.odd_places import ODD_NAME, ODD_PLACE
from slurm_lab.running import environment, run, snakemake
from snakemake_executor_plugin_submitit.submission.submit import submit

pytestmark = pytest.mark.slow
RANK_PROGRAM = """\
import json, os, pathlib, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
pathlib.Path(sys.argv[1] + os.environ["RANK"]).write_text(json.dumps({n: os.environ[n] for n in names}))
"""


def test_a_chain_of_rules_runs_and_a_second_run_has_nothing_to_do(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule last:
            input: "a.txt"
            output: "b.txt"
            shell: "cat {input} {input} > {output}"
        rule first:
            output: "a.txt"
            shell: "echo made > {output}"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "b.txt").read_text() == "made\nmade\n"
    assert "Nothing to be done" in snakemake(tmp_path, cluster="local").stdout


def test_every_rank_runs_the_command_with_its_own_environment(tmp_path):
    (tmp_path / "rank.py").write_text(RANK_PROGRAM)
    write_snakefile(
        tmp_path,
        """
        rule ranks:
            output: touch("done")
            resources: nodes=2, tasks_per_node=2, mem_mb=100
            shell: "spmd python rank.py first- && spmd python rank.py second-"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode == 0, done.stdout
    for name in ("first-", "second-"):
        ranks = [json.loads((tmp_path / f"{name}{rank}").read_text()) for rank in range(4)]
        assert [r["RANK"] for r in ranks] == ["0", "1", "2", "3"]
        assert {r["WORLD_SIZE"] for r in ranks} == {"4"}
        assert len({(r["MASTER_ADDR"], r["MASTER_PORT"]) for r in ranks}) == 1


def test_a_rank_that_fails_stops_all_and_is_named_with_its_log(tmp_path):
    (tmp_path / "fail.py").write_text(
        "import os, time\n"
        "open('pid' + os.environ['RANK'], 'w').write(str(os.getpid()))\n"
        "if os.environ['RANK'] == '2':\n"
        "    print('rank two says why', flush=True)\n"
        "    raise SystemExit(7)\n"
        "time.sleep(600)\n"
    )
    write_snakefile(
        tmp_path,
        """
        rule ranks:
            output: "never"
            resources: tasks_per_node=4, mem_mb=100
            shell: "spmd python fail.py"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode != 0
    assert "rank 2 failed first" in done.stdout
    assert "rank two says why" in done.stdout
    assert "_2_log.out" in done.stdout
    for rank in (0, 1, 3):
        pid_file = tmp_path / f"pid{rank}"
        assert not (pid_file.exists() and Path(f"/proc/{pid_file.read_text()}").exists())


def test_a_failing_rule_shows_its_log_and_exit_status(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule bad:
            output: "never"
            shell: "echo the reason; exit 3"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode != 0
    assert "bad: local job" in done.stdout
    assert "the reason" in done.stdout
    assert "log:" in done.stdout


def test_jobs_that_need_all_cpus_do_not_overlap(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: expand("{n}.txt", n=range(3))
        rule one:
            output: "{n}.txt"
            threads: 2
            resources: cpus_per_task=2
            shell: "date +%s.%N > {output}; sleep 0.5; date +%s.%N >> {output}"
        """,
    )
    done = snakemake(tmp_path, "--submitit-local-cpus", "2", cluster="local")
    assert done.returncode == 0, done.stdout
    spans = sorted(tuple(map(float, (tmp_path / f"{n}.txt").read_text().split())) for n in range(3))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_retries_are_new_jobs_with_grown_resources(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule grows:
            output: "out.txt"
            resources: mem_mb=lambda wildcards, attempt: 100 * attempt
            retries: 2
            shell: "echo {resources.mem_mb} >> seen; test {resources.mem_mb} -ge 300 && touch {output}"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "seen").read_text().split() == ["100", "200", "300"]
    attempts = [p for p in (tmp_path / ".snakemake/submitit/grows").iterdir() if not p.is_symlink()]
    assert len(attempts) == 3


def test_a_resource_that_makes_no_sense_is_named_before_anything_runs(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule bad:
            output: "out.txt"
            resources: nodes=0
            shell: "touch {output}"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode != 0
    assert "resource nodes=0: expected a whole number, at least 1" in done.stdout
    assert not (tmp_path / ".snakemake/submitit").exists()


def test_why_a_group_of_jobs_cannot_run_is_told(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "b.txt"
        rule a:
            output: "a.txt"
            group: "both"
            resources: mem_mb=99999999
            shell: "touch {output}"
        rule b:
            input: "a.txt"
            output: "b.txt"
            group: "both"
            shell: "touch {output}"
        """,
    )
    done = snakemake(tmp_path, cluster="local")
    assert done.returncode == 1
    assert "lower mem_mb" in done.stdout


def test_a_folder_with_spaces_quotes_and_shell_signs_works(tmp_path):
    folder = tmp_path / ODD_NAME
    write_snakefile(folder, ODD_PLACE)
    done = snakemake(folder, "--config", f"where={folder}", cluster="local")
    assert done.returncode == 0, done.stdout
    assert (folder / "out.txt").read_text() == "made\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("pool", ["0", "1x2"])
def test_stopping_the_main_process_of_50_jobs_leaves_no_orphan(tmp_path, how, pool):
    (tmp_path / "sleep.py").write_text("import os, time; open(f'pid{os.getpid()}', 'w').close(); time.sleep(600)")
    write_snakefile(
        tmp_path,
        f"""
        rule all:
            input: expand("{{n}}.txt", n=range(50))
        rule one:
            output: "{{n}}.txt"
            resources: mem_mb=100, pool="{pool}"
            shell: "python sleep.py"
        """,
    )
    command = ["snakemake", "--executor", "submitit", "--submitit-cluster", "local", "--submitit-local-cpus", "2", "-j50"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as main:
        try:
            wait_for(lambda: len(list(tmp_path.glob("pid*"))) == 2, 120)
            pids = [p.name[3:] for p in tmp_path.glob("pid*")]
            main.send_signal(how)
            main.wait(60)
        finally:
            main.kill()
            main.stdout.close()  # without the main process to read it
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)
    assert len(list(tmp_path.glob("pid*"))) == 2


@pytest.mark.parametrize("pool", ["0", "2"])
def test_ctrl_c_in_a_terminal_ends_everything_without_a_traceback(tmp_path, pool):
    write_snakefile(
        tmp_path,
        f"""
        rule all:
            input: "a.txt", "b.txt"
        rule one:
            output: "{{n}}.txt"
            resources: mem_mb=100, pool={pool}
            shell: "touch {{wildcards.n}}.begun; sleep 600"
        """,
    )
    main = Main(SimpleNamespace(environment={}), tmp_path, "--submitit-cluster", "local", "--submitit-local-cpus", "2")
    try:
        wait_for(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
        main.interrupt()
    finally:
        main.kill()
    assert "Terminating processes on user request" in main.output
    assert "Traceback" not in main.output and "KeyboardInterrupt" not in main.output, main.output


def test_spmd_outside_of_a_job_is_the_command_itself(tmp_path):
    done = run(tmp_path, "spmd", "python", "-c", "import os; print('RANK' in os.environ)")
    assert (done.returncode, done.stdout.strip()) == (0, str("RANK" in os.environ))
    done = run(tmp_path, "spmd", "no-such-program")
    assert done.returncode == 127
    assert "cannot run 'no-such-program'" in done.stdout


def test_one_command_can_be_submitted_by_itself(tmp_path):
    job = submit(["sh", "-c", "echo out; exit 4"], cluster="local", folder=tmp_path, name="single", resources={"mem_mb": 100})
    assert job.wait(0.1) == 4
    assert job.state() == "FAILED"
    assert "out" in job.log_path.read_text()
    assert (tmp_path / "single" / "latest").resolve() == job.folder


def test_a_command_longer_than_one_argument_may_be_runs(tmp_path):
    """As that of a group of many jobs."""
    command = f"words='{'x ' * 80_000}'; echo ${{#words}}"
    job = submit(command, cluster="local", folder=tmp_path, name="long", resources={"mem_mb": 100})
    assert job.wait(0.1) == 0, job.log_path.read_text()
    assert "160000" in job.log_path.read_text().split()


def test_an_unknown_value_in_a_single_submission_is_refused(tmp_path):
    with pytest.raises(WorkflowError, match="runtime='soon': expected a whole number in minutes"):
        submit("true", cluster="local", folder=tmp_path, name="x", resources={"runtime": "soon"})


def test_mistakes_of_a_user_are_told_in_one_run(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule idle:
            output: "out.txt"
            resources: tasks=2, mem_mb=100
            shell: "touch {output}"
        """,
    )
    (tmp_path / "file").touch()
    done = snakemake(tmp_path, "--submitit-folder", "file", cluster="local")
    assert done.returncode != 0
    assert f"idle: --submitit-folder {tmp_path / 'file'}: cannot create a folder here: Not a directory" in done.stdout
    assert "idle: the job has 2 ranks, and only the first will do anything; begin the command with spmd" in done.stdout
    done = snakemake(tmp_path, "--submitit-poll-seconds", "0", cluster="local")
    assert done.returncode != 0
    assert "--submitit-poll-seconds=0: expected a number, at least 1" in done.stdout
    assert not (tmp_path / "out.txt").exists()


BUSY_ONCE = """
import errno, subprocess
start, controllers = subprocess.Popen.__init__, []

def busy_once(self, args, *rest, **options):
    if any("job.controller" in str(word) for word in args):
        controllers.append(args)
        if len(controllers) == 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
    start(self, args, *rest, **options)

subprocess.Popen.__init__ = busy_once
"""


def test_a_machine_that_can_start_no_process_now_is_asked_again(tmp_path):
    write_snakefile(
        tmp_path,
        f"""
        rule all:
            input: "1.txt", "2.txt"
        rule job:
            output: "{{n}}.txt"
            resources: cpus_per_task={len(os.sched_getaffinity(0))}
            shell: "touch {{output}}"
        """,
    )
    (tmp_path / "sitecustomize.py").write_text(BUSY_ONCE)
    done = snakemake(tmp_path, cluster="local", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout


def test_a_run_whose_output_nobody_reads_any_more_ends_when_a_job_fails(tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule fails_when_told_to:
            output: touch("done")
            shell: "touch begun; while [ ! -e go ]; do sleep 0.2; done; exit 3"
        """,
    )
    command = ["snakemake", "--executor", "submitit", "--submitit-cluster", "local", "--jobs", "1"]
    main = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for((tmp_path / "begun").exists)
    main.stdout.close()
    (tmp_path / "go").touch()
    try:
        assert main.wait(60) != 0
    finally:
        main.kill()
