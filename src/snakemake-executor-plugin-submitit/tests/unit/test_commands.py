"""How Slurm's commands are called: in what environment, how long they may take, and what becomes of them."""

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_lab.main_process import Main, lines, wait_for, write_program, write_snakefile
from snakemake_executor_plugin_submitit.request.resources import Request, slurm_parameters
from snakemake_executor_plugin_submitit.submission import capacity, commands
from snakemake_executor_plugin_submitit.submission.capacity import missing_gpus
from snakemake_executor_plugin_submitit.submission.commands import (
    BusyError,
    RefusedError,
    allow_sbatch,
    is_of_outer_job,
    restored_options,
    sbatch,
    stop_sbatch,
)
from snakemake_executor_plugin_submitit.submission.held import MAX_RELEASES, HeldJobs
from snakemake_executor_plugin_submitit.submission.slurm_executor import _job_id
from snakemake_executor_plugin_submitit.submission.states import QUERY_CHUNK, SlurmQueue, State, _parse, exit_signal

NO_SLURM = SimpleNamespace(environment={})


@pytest.fixture(autouse=True)
def _sbatch_is_allowed():
    yield
    allow_sbatch()


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path / "bin"


@pytest.mark.slow
def test_a_sbatch_that_hangs_is_told_of_and_does_not_outlive_ctrl_c(tmp_path):
    write_snakefile(tmp_path, "rule one:\n    output: 'a.txt'\n    shell: 'touch {output}'")
    programs = write_program(tmp_path / "bin", "sbatch", "#!/bin/bash\necho $$ > sbatch.pid\nsleep 600\n")
    for name in ("srun", "squeue", "sinfo"):
        write_program(programs, name, "#!/bin/sh\n")
    main = Main(NO_SLURM, tmp_path, path=programs)
    wait_for(lambda: "sbatch has not answered for 5 s; still waiting for it" in main.output, 40, lambda: main.output)
    group = int((tmp_path / "sbatch.pid").read_text())
    assert members(group)
    main.interrupt()
    assert members(group) == []
    assert "sbatch did not answer and was stopped: if it has submitted a job, that job ends by itself" in main.output
    assert list((tmp_path / ".snakemake/submitit/registry").iterdir()) == []


def members(group):
    """Processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state not in "ZX":
                found.append(stat.parent.name)
    return found


def test_sbatch_is_called_without_variables_that_stand_for_options_and_jobs_get_them_back(programs, monkeypatch):
    write_program(programs, "sbatch", '#!/bin/sh\nenv > "$1"\necho Submitted batch job 7\n')
    hostile = {"SBATCH_WAIT": "1", "SBATCH_EXPORT": "NONE", "SQUEUE_NAMES": "a b", "SLURM_JOB_ID": "3", "SPMD_RANK": "0"}
    for name, value in (hostile | {"SLURM_CONF": "/etc/x", "OTHER": "y"}).items():
        monkeypatch.setenv(name, value)
    assert "job 7" in sbatch([str(programs / "seen")], print)
    seen = dict(line.split("=", 1) for line in lines(programs / "seen") if "=" in line)
    assert not hostile.keys() & seen.keys()
    assert (seen["SLURM_CONF"], seen["OTHER"]) == ("/etc/x", "y")
    assert {"export SBATCH_WAIT=1", "export SQUEUE_NAMES='a b'"} <= set(restored_options())
    assert not any("SLURM" in line or "OTHER" in line for line in restored_options())


def test_the_tasks_of_many_ranks_get_the_environment_whatever_sbatch_exports(tmp_path):
    parameters = slurm_parameters(Request(nodes=2), name="a", comment="", folder=tmp_path)
    assert "--export=ALL" in parameters["srun_args"]


def test_a_users_partition_is_a_default(tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "mine")
    monkeypatch.setenv("SBATCH_CONSTRAINT", "fast")

    def options(**sbatch):
        request = Request(sbatch=sbatch)
        return slurm_parameters(request, name="a", comment="", folder=tmp_path)["additional_parameters"]

    assert options()["partition"] == "mine"
    assert options(partition="gpu")["partition"] == "gpu"
    assert "constraint" not in options()


def test_errors_of_sbatch_are_told_in_its_words(programs, monkeypatch):
    write_program(programs, "sbatch", "#!/bin/sh\necho 'sbatch: error: no' >&2\nexit 1\n")
    with pytest.raises(RefusedError, match="sbatch: error: no"):
        sbatch([], print)
    write_program(programs, "sbatch", "#!/bin/sh\nsleep 600\n")
    monkeypatch.setattr(commands, "SBATCH_SLOW_S", 0.1)
    monkeypatch.setattr(commands, "SBATCH_LIMIT_S", 0.5)
    told = []
    with pytest.raises(BusyError, match="did not answer"):
        sbatch([], told.append)
    assert len(told) == 1
    monkeypatch.setattr(commands, "SBATCH_LIMIT_S", 60)
    with pytest.raises(RefusedError, match="ended by SIGKILL"):
        sbatch([], lambda text: stop_sbatch())


def test_after_the_end_of_a_run_sbatch_is_not_called_any_more(programs):
    write_program(programs, "sbatch", "#!/bin/sh\ntouch $0.called\n")
    stop_sbatch()
    with pytest.raises(RefusedError, match="was not called: the run has ended"):
        sbatch([], print)
    assert not (programs / "sbatch.called").exists()
    allow_sbatch()
    sbatch([], print)
    assert (programs / "sbatch.called").exists()


def test_the_token_of_a_client_without_munge_is_kept():
    assert not is_of_outer_job("SLURM_JWT")
    assert is_of_outer_job("SLURM_JOB_ID")


@pytest.mark.parametrize("output", ["7\n", "7;lab\n", "Charging job 4 to account 12\n3 nodes\n\n7\n"])
def test_the_id_of_a_job_is_found_below_what_a_site_prints(output):
    assert _job_id(output) == "7"


def test_an_answer_without_an_id_is_a_refusal():
    with pytest.raises(RefusedError, match="sbatch printed no job id: 'Thank you'"):
        _job_id("Thank you\n")


def test_thousands_of_ids_are_asked_for_in_pieces(programs):
    write_program(programs, "squeue", "#!/bin/sh\n")
    answer = """for id in $(echo "$last" | tr , " "); do echo "$id|COMPLETED|None|node1"; done"""
    write_program(
        programs, "sacct", f'#!/bin/bash\nlast="${{@: -1}}"\necho x >> $0.calls\n[[ $last == *,3500,* ]] && exit 1\n{answer}\n'
    )
    ids = [str(number) for number in range(12_000)]
    answers = SlurmQueue().query(ids)
    assert len(lines(programs / "sacct.calls")) == 12_000 / QUERY_CHUNK
    assert answers is not None and answers.keys() == set(ids)
    assert answers["11999"] == State("COMPLETED", "", "node1")
    assert answers["3999"].is_alive, "of a piece that is not answered, all count as alive"


def test_the_time_to_read_an_answer_grows_with_the_jobs_and_not_with_their_square():
    ids = [str(number) for number in range(50_000)]
    listing = "\n".join(f"{job_id}|RUNNING|None|node1" for job_id in ids)
    began = time.monotonic()
    assert len(_parse(listing, ids)) == 50_000
    assert time.monotonic() - began < 10, "with the square it takes minutes"


def test_what_slurm_holds_is_released_a_few_times_and_then_told(programs):
    write_program(programs, "scontrol", '#!/bin/sh\necho "$@" >> $0.calls\n')
    held, names = HeldJobs(), {"5": "train", "8_1": "part", "9": "fine"}
    by_slurm = {
        "5": State("PENDING", "launch failed requeued held"),
        "8_1": State("PENDING", "launch_failed_requeued_held"),
        "9": State("PENDING", "Resources"),
    }
    for _ in range(MAX_RELEASES):
        assert [text.endswith("; released") for text in held.handle(names, by_slurm)] == [True, True]
    assert lines(programs / "scontrol.calls") == ["release 5", "release 8_1"] * MAX_RELEASES
    told = held.handle(names, by_slurm)
    assert [text.rpartition(": ")[2] for text in told] == ["scontrol release 5", "scontrol release 8_1"]
    assert held.handle(names, by_slurm) == []
    assert len(lines(programs / "scontrol.calls")) == 2 * MAX_RELEASES


def test_what_a_person_holds_is_not_released_but_told_once(programs):
    write_program(programs, "scontrol", '#!/bin/sh\necho "$@" >> $0.calls\n')
    held, names = HeldJobs(), {"5": "train", "6": "other"}
    answers = {"5": State("PENDING", "JobHeldUser"), "6": State("PENDING", "JobHeldAdmin")}
    admin, user = held.handle(names, answers)
    assert user == "held in Slurm's queue, reason JobHeldUser: train; to release it: scontrol release 5"
    assert admin == "held in Slurm's queue, reason JobHeldAdmin: other; an administrator can release it: scontrol release 6"
    assert held.handle(names, answers) == []
    assert not (programs / "scontrol.calls").exists()


@pytest.fixture
def nodes(programs, monkeypatch):
    capacity._gpus_of_nodes.cache_clear()
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    rows = (
        *("main*|(null)", "main*|gpu:a100:4(S:0-1),gpu:h100:2", "big|gpu:8"),
        *("mixed|craynetwork:4,gpu:h100:8(IDX:0-7)", "cpu|(null)"),
    )
    text = "".join(f"echo '{row}'\n" for row in rows)
    write_program(programs, "sinfo", f"#!/bin/sh\necho x >> $0.calls\n{text}")
    yield programs
    capacity._gpus_of_nodes.cache_clear()


@pytest.mark.parametrize(
    ("gpus", "model", "partition", "most"),
    [
        (6, None, None, None),
        (7, None, None, 6),
        (4, "a100", "main", None),
        (5, "a100", "main", 4),
        (9, None, "main,big", 8),
        (8, "h100", "mixed", None),
        (1, None, "cpu", 0),
        (99, None, "unknown", None),
    ],
)
def test_a_request_of_more_gpus_than_any_node_has_is_known_beforehand(nodes, gpus, model, partition, most):
    told = missing_gpus(Request(gpus_per_node=gpus, gpu_model=model, sbatch={"partition": partition} if partition else {}))
    if most is None:
        assert told is None
    else:
        assert told is not None and told.endswith(f"has more than {most}: it may wait for ever")


def test_sinfo_is_asked_once_and_its_silence_is_no_error(nodes):
    for _ in range(3):
        missing_gpus(Request(gpus_per_node=1))
    assert len(lines(nodes / "sinfo.calls")) == 1
    assert missing_gpus(Request()) is None
    capacity._gpus_of_nodes.cache_clear()
    write_program(nodes, "sinfo", "#!/bin/sh\nexit 1\n")
    assert missing_gpus(Request(gpus_per_node=99)) is None


def test_the_signal_that_killed_a_job_is_known_from_the_queue_or_from_accounting(programs):
    write_program(programs, "scontrol", "#!/bin/sh\necho '   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:9'\n")
    assert exit_signal("5") == 9
    write_program(programs, "scontrol", "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    write_program(programs, "sacct", "#!/bin/sh\necho '0:11'\n")
    assert exit_signal("5") == 11
    write_program(programs, "sacct", "#!/bin/sh\nexit 1\n")
    assert exit_signal("5") == 0
