"""The tasks of an array in one file."""

import pytest

from snakemake_executor_plugin_submitit.job.tasks import SUFFIX, fetch_own_task, read_task, write_tasks
from snakemake_executor_plugin_submitit.tracking.registry import Record, Submission

PICKLES = [b"first\n", b"", b"\x80\x05third" * 1000]


@pytest.fixture
def array(tmp_path, monkeypatch):
    write_tasks(tmp_path / f"7{SUFFIX}", PICKLES)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    return tmp_path


def test_each_job_reads_its_own_task(array):
    assert [read_task(array / f"7{SUFFIX}", index) for index in range(3)] == PICKLES
    with pytest.raises(IndexError):
        read_task(array / f"7{SUFFIX}", 3)


def test_a_job_finds_its_task_where_submitit_expects_it_for_its_owner_only(array):
    fetch_own_task(array)
    (own,) = (path for path in array.iterdir() if not path.name.endswith(SUFFIX))
    assert (own.name, own.read_bytes(), own.stat().st_mode & 0o777) == ("7_2_submitted.pkl", PICKLES[2], 0o600)


def test_the_task_of_a_requeued_job_stays_as_it_was_left(array):
    (array / "7_2_submitted.pkl").write_bytes(b"with fewer timeouts left")
    fetch_own_task(array)
    assert (array / "7_2_submitted.pkl").read_bytes() == b"with fewer timeouts left"


def test_a_job_by_itself_has_its_task_already(array, monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    fetch_own_task(array)
    assert [path.name for path in array.iterdir()] == [f"7{SUFFIX}"]


def test_a_file_that_is_cut_off_is_named(array):
    path = array / f"7{SUFFIX}"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=rf"7{SUFFIX}: it is cut off"):
        read_task(path, 2)


def test_the_ids_of_an_array_are_found_if_the_main_process_died_before_it_noted_them(array):
    records = [Record(f"a.{index}", str(array / str(index)), ()) for index in range(3)]
    submission = Submission(str(array), records, is_array=True)
    assert submission.job_ids() == ["7_0", "7_1", "7_2"]
    assert submission.job_id_of(records[1]) == "7_1"
