"""Which of the jobs that an earlier main process left behind are adopted; with real files, and what squeue would say."""

import json
import logging

import pytest

from slurm_lab.main_process import write_program
from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.submission.states import SlurmQueue
from snakemake_executor_plugin_submitit.tracking import adoption
from snakemake_executor_plugin_submitit.tracking.adoption import Adopter
from snakemake_executor_plugin_submitit.tracking.locks import release_stale
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Two jobs of which squeue says that they run; the registry, and the submissions with their only records."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    write_program(tmp_path / "bin", "squeue", "#!/bin/sh\necho '5|RUNNING|None|node1'\necho '6|RUNNING|None|node1'\n")
    write_program(tmp_path / "bin", "sacct", "#!/bin/sh\necho '6|OUT_OF_MEMORY|None|node1'\n")
    registry, jobs = Registry(tmp_path), []
    for job_id in ("5", "6"):
        job_dir = tmp_path / job_id / "1"
        job_dir.mkdir(parents=True)
        record = Record(job_id, str(job_dir), (f"/out{job_id}",))
        jobs.append((Submission(str(job_dir), [record], is_array=False, job_id=job_id), record))
        registry.note(jobs[-1][0])
    return registry, jobs


def adopted_id(adopter, output):
    found = adopter.find([output], None)
    return None if found is None else found[2].job_id


def adopter_of(registry):
    return Adopter(registry, SlurmQueue(), None, logging.getLogger())


def test_an_adopted_job_that_ended_without_a_result_is_not_adopted_again(left_behind):
    registry, [job, _] = left_behind
    adopter = adopter_of(registry)
    assert adopted_id(adopter, "/out5") == "5"
    assert adopted_id(adopter, "/out5") == "5", "several jobs may adopt that of a group"
    registry.mark_reported(*job)
    assert adopted_id(adopter, "/out5") is None


def test_slurm_is_asked_again_when_its_answer_is_old(left_behind, tmp_path, monkeypatch):
    registry, _ = left_behind
    adopter = adopter_of(registry)
    assert adopted_id(adopter, "/out5") == "5"
    write_program(tmp_path / "bin", "squeue", "#!/bin/sh\necho '5|RUNNING|None|node1'\n")
    assert adopted_id(adopter, "/out6") == "6", "one answer is for all jobs that become ready together"
    monkeypatch.setattr(adoption, "STATE_CACHE_S", 0.0)
    assert adopted_id(adopter, "/out6") is None


def test_what_a_former_version_noted_is_read(left_behind, tmp_path):
    registry, _ = left_behind
    for note in (tmp_path / "registry").iterdir():
        note.write_text(json.dumps({"cluster": "slurm"} | json.loads(note.read_text())))
    assert adopted_id(adopter_of(registry), "/out5") == "5"


@pytest.mark.parametrize("content", ["[]", "{}", "5", "null", '{"records": 3}', '{"records": [{}]}', '{"records": [], "x": 1}'])
def test_a_damaged_note_of_a_submission_is_left_alone(left_behind, tmp_path, content):
    registry, _ = left_behind
    (tmp_path / "registry/damaged.json").write_text(content)
    assert adopted_id(adopter_of(registry), "/out5") == "5"


@pytest.mark.parametrize("content", ["[]", "{}", "5", '{"status": null}', '{"status": "x"}', "[" * 100_000])
def test_a_damaged_result_is_none(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("content", ["[]", "{}", "5", '{"process": {}, "files": {}}', '{"process": 3}'])
def test_a_damaged_note_of_a_lock_releases_nothing(tmp_path, content):
    (tmp_path / "0.output.lock").write_text("a.txt")
    (tmp_path / "owner-1.json").write_text(content)
    release_stale(tmp_path)
    assert (tmp_path / "0.output.lock").exists()
