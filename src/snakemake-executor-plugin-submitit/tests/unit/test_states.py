"""How the answers of Slurm's commands are interpreted, and what happens when there are none."""

import pytest

from slurm_lab.main_process import write_program
from snakemake_executor_plugin_submitit.submission.states import SlurmQueue, State, cancel

SQUEUE = """\
#!/bin/bash
echo "7|RUNNING|None|node1"
echo "8_0|PENDING|Resources|"
echo "8_1|CANCELLED+|None|node2"
echo "99|RUNNING|None|node3"
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_living_are_asked_for_in_squeue_and_the_vanished_in_sacct(programs):
    write_program(programs, "squeue", SQUEUE)
    write_program(programs, "sacct", '#!/bin/bash\necho "$@" > $0.arguments\necho "5|CANCELLED by 1000|None|node4"\n')
    assert SlurmQueue().query(["5", "7", "8_0", "8_1"]) == {
        "5": State("CANCELLED", "", "node4"),
        "7": State("RUNNING", "", "node1"),
        "8_0": State("PENDING", "Resources", ""),
        "8_1": State("CANCELLED", "", "node2"),
    }
    assert (programs / "sacct.arguments").read_text().split()[-1] == "5"


def test_tasks_of_an_array_that_share_a_line_of_accounting_are_found(programs):
    write_program(programs, "squeue", "#!/bin/sh\n")
    write_program(
        programs,
        "sacct",
        "#!/bin/sh\necho $SLURM_BITSTR_LEN > $0.length\necho '8_[1,4-6%3]|CANCELLED by 0|None|'\necho '8_2|FAILED|None|n'\n",
    )
    answers = SlurmQueue().query([f"8_{index}" for index in range(8)])
    assert answers is not None
    assert {job_id: state.name for job_id, state in answers.items()} == {
        "8_2": "FAILED",
        **dict.fromkeys(("8_1", "8_4", "8_5", "8_6"), "CANCELLED"),
    }
    assert (programs / "sacct.length").read_text() == "0\n", "Slurm must not cut the list of tasks"


def test_tasks_with_a_constant_step_are_found(programs):
    write_program(programs, "squeue", "#!/bin/sh\n")
    write_program(programs, "sacct", "#!/bin/sh\necho '8_[1-13:4,20%1000]|CANCELLED by 0|None|'\n")
    answers = SlurmQueue().query([f"8_{index}" for index in range(30)])
    assert answers is not None
    assert set(answers) == {"8_1", "8_5", "8_9", "8_13", "8_20"}


@pytest.mark.parametrize("name", ["EXPEDITING", "REVOKED", "RECONFIG_FAIL", "PENDING", "COMPLETING", "OF_A_LATER_SLURM"])
def test_a_state_that_is_not_known_to_be_final_means_alive(name):
    assert State(name).is_alive


@pytest.mark.parametrize("name", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"])
def test_a_final_state_does_not(name):
    assert not State(name).is_alive


def test_no_answer_means_alive(programs):
    write_program(programs, "squeue", "#!/bin/bash\nexit 1\n")
    assert SlurmQueue().query(["5"]) is None
    write_program(programs, "squeue", SQUEUE)
    write_program(programs, "sacct", "#!/bin/bash\necho 'sacct: error: connection refused' >&2\nexit 1\n")
    answers = SlurmQueue().query(["5", "7"])
    assert answers is not None
    assert answers["5"].is_alive
    assert answers["7"].is_alive
    (programs / "sacct").chmod(0o644)  # it is there, and cannot be started
    assert SlurmQueue().query(["5"])["5"].is_alive


def test_without_accounting_a_job_that_squeue_does_not_know_is_unknown_to_slurm(programs):
    write_program(programs, "squeue", SQUEUE)
    assert SlurmQueue().query(["5"]) == {}  # no sacct at all
    write_program(programs, "sacct", "#!/bin/bash\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    assert SlurmQueue().query(["5"]) == {}


def test_jobs_are_cancelled_by_the_hundred_and_those_that_could_not_be_are_returned(programs):
    write_program(programs, "scancel", '#!/bin/bash\necho $# >> $0.counts\n[ "$1" != 200 ]\n')
    ids = [str(number) for number in range(450)]
    assert cancel(ids) == ids[200:400]
    assert (programs / "scancel.counts").read_text().split() == ["200", "200", "200", "50"]
