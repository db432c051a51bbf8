"""Which jobs belong to which stages, and which of them `cancel` may end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission
from spikedistill import cli
from spikedistill.config.check import parse_config
from spikedistill.launch.jobs import find, local, mains, slurm
from spikedistill.launch.jobs.attempts import Attempts
from spikedistill.launch.jobs.cancel import cancel
from spikedistill.launch.jobs.find import JobFinder
from spikedistill.launch.jobs.job import GONE, Job
from spikedistill.launch.status import collect
from spikedistill.plan.build import build_plan
from spikedistill.store.artifacts import Store

CONFIG = {
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "student": {"arch": "resnet8", "time_steps": 2, "train": {"epochs": 1, "batch_size": 50}},
            "methods": {"ce": {}, "tet": {}},
        }
    },
}
WIDTH = 400


def line(script, **values):
    """A line of squeue, as `slurm.FIELDS` orders it."""
    cells = {"State": "RUNNING", "RestartCnt": "0", "TimeUsed": "1:00", "Reason": "None"} | values
    return "|".join(
        [*(cells.get(field, "").ljust(width) for field, width in slurm.FIELDS.items()), str(script).ljust(WIDTH) + "|"]
    )


class Place:
    """A working directory whose Slurm answers what it is told to."""

    def __init__(self):
        self.plan = build_plan(parse_config(CONFIG))
        self.folder = Path(".snakemake/submitit").absolute()
        self.answer = []
        self.refs = {spec.method: ref for ref, spec in self.plan.stages.items() if spec.stage == "distill"}

    def find(self):
        return JobFinder(self.plan, {}).find()

    def job_dir(self, name):
        folder = self.folder / name / "20260101T000000"
        folder.mkdir(parents=True)
        (folder.parent / "latest").symlink_to(folder.name)
        return folder

    def name(self, method):
        return f"distill.{Path(self.refs[method]).name}"

    def record(self, *methods, job_id="7", outputs=None):
        """Note an array of jobs as the executor does; return its folder."""
        folder = self.job_dir("arrays")
        manifests = [str(Store("store").manifest_path(self.refs[method]).absolute()) for method in methods]
        records = [
            Record(self.name(method), str(self.job_dir(self.name(method))), tuple(outputs or [manifest]))
            for method, manifest in zip(methods, manifests, strict=True)
        ]
        Registry(self.folder).note(Submission(str(folder), records, is_array=True, job_id=job_id))
        return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Place()
    monkeypatch.setattr(slurm, "is_here", lambda: True)
    monkeypatch.setattr(slurm, "_call", lambda command: "\n".join(here.answer))
    monkeypatch.setattr(find.local, "local_jobs", lambda: [])
    return here


def test_tasks_of_an_array_are_known_by_the_executors_record(place):
    folder = place.record("ce", "tet")
    script = folder / ".submission_file_1.sh"
    place.answer = [
        line(script, JobArrayID="7_0", NodeList="node3"),
        line(script, JobArrayID="7_1", State="PENDING", Reason="Priority"),
    ]
    found = place.find()
    (ce,), (tet,) = found.by_ref[place.refs["ce"]], found.by_ref[place.refs["tet"]]
    assert (ce.job.nodes, ce.job.elapsed_s, ce.job.is_pending) == ("node3", 60.0, False)
    assert (tet.job.reason, tet.job.is_pending, tet.job_dir.parent.name) == ("Priority", True, place.name("tet"))


def test_a_job_of_submit_is_known_by_its_folder(place):
    folder = place.job_dir(Path(place.refs["ce"]).name)
    place.answer = [line(folder / ".submission_file_1.sh", JobArrayID="9", **{"tres-alloc": "cpu=4,node=2,gres/gpu=8"})]
    (ce,) = place.find().by_ref[place.refs["ce"]]
    assert (ce.job.job_id, ce.job.gpus) == ("9", 8)


def test_a_job_that_left_the_queue_is_gone_and_one_of_another_stage_is_stale(place):
    place.record("ce")
    stale, other = place.job_dir("distill.digits-resnet8-kd-seed0-0123456789"), place.job_dir("report")
    place.answer = [line(stale / ".submission_file_1.sh", JobArrayID="8"), line(other / ".submission_file_1.sh", JobArrayID="9")]
    found = place.find()
    assert [each.job.state for each in found.by_ref[place.refs["ce"]]] == [GONE]
    assert [each.job.job_id for each in found.stale] == ["8"]
    assert [each.name for each in found.others] == ["report"]


def test_jobs_that_a_snakemake_makes_with_another_configuration_are_not_stale(place, monkeypatch, capsys):
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG))
    left, stale = (place.job_dir(f"distill.digits-resnet8-{method}-seed0-0123456789") for method in ("kd", "fitnet"))
    place.answer = [line(job_dir / ".submission_file_1.sh", JobArrayID=job_id) for job_id, job_dir in (("8", left), ("9", stale))]
    output = f"/home/me/store/students/{left.parent.name.partition('.')[2]}/manifest.json"
    other = mains.MainProcess(4711, "login2", False, frozenset({output, "/home/me/results/results.html"}))
    monkeypatch.setattr(mains, "main_processes", lambda: [other])
    monkeypatch.setattr(collect, "main_processes", lambda: [other])
    assert cli.main(["status"]) == 0
    shown = capsys.readouterr().out
    assert f"with another configuration: {left.parent.name} (job 8, running); to see and stop them, give" in shown
    assert f"not in this configuration: {stale.parent.name} (job 9, running); spikedistill cancel --stale" in shown
    assert cli.main(["status", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [[each["job_id"] for each in content[key]] for key in ("jobs_of_other_runs", "stale_jobs")] == [["8"], ["9"]]
    ended = []
    monkeypatch.setattr(states, "cancel", lambda ids: ended.extend(ids) or [])
    assert cli.main(["cancel", "--stale"]) == 0
    assert ended == ["9"]
    said = capsys.readouterr().err
    assert f"{left.parent.name} is left alone: Snakemake, process 4711 on login2, makes it with another configuration" in said
    assert "snakemake --unlock" in said


@pytest.mark.parametrize(
    "script",
    [
        "/home/me/other/.snakemake/submitit/distill.x/20260101T000000/.submission_file_1.sh",
        "/home/me/train.sh",
        "(null)",
        "",
    ],
)
def test_an_id_that_another_job_has_by_now_is_not_ours(place, script, monkeypatch):
    place.record("ce", job_id="7")
    place.answer = [line(script, JobArrayID="7_0")]
    jobs = place.find().by_ref[place.refs["ce"]]
    assert [each.job.state for each in jobs] == [GONE]
    assert place.find().living() == []
    cancelled = []
    monkeypatch.setattr(states, "cancel", lambda ids: cancelled.extend(ids) or [])
    assert cancel(place.find().living()).ended == []
    assert cancelled == []


def test_a_registry_of_somebody_else_chooses_no_jobs(place, monkeypatch):
    folder = place.record("ce")
    place.answer = [line(folder / ".submission_file_1.sh", JobArrayID="7_0")]
    monkeypatch.setattr("snakemake_executor_plugin_submitit.tracking.registry.is_ours", lambda folder: False)
    assert place.find().living() == []


def test_without_an_answer_of_slurm_its_last_one_counts_and_jobs_on_this_machine_are_known(place, monkeypatch):
    folder = place.job_dir(place.name("ce"))
    finder = JobFinder(place.plan, {})
    here = Job("local", "77", place.job_dir(place.name("tet")), "RUNNING")
    monkeypatch.setattr(find.local, "local_jobs", lambda: [here])

    def no_answer(command):
        raise slurm.NoAnswerError("squeue failed: down")

    answers = slurm._call
    monkeypatch.setattr(slurm, "_call", no_answer)
    first = finder.find()
    assert [each.job.job_id for each in first.living()] == ["77"]
    assert "nothing is known of jobs in Slurm" in first.problem
    monkeypatch.setattr(slurm, "_call", answers)
    place.answer = [line(folder / ".submission_file_1.sh", JobArrayID="7")]
    assert finder.find().problem == ""
    monkeypatch.setattr(slurm, "_call", no_answer)
    later = finder.find()
    assert {each.job.job_id for each in later.living()} == {"7", "77"}
    assert "shown as of" in later.problem


def test_a_machine_that_belongs_to_no_cluster_is_no_problem_unless_jobs_were_sent_to_one(place, monkeypatch):
    def no_cluster(command):
        raise slurm.NoClusterError("squeue failed: could not establish a configuration source")

    monkeypatch.setattr(slurm, "_call", no_cluster)
    assert place.find().problem == ""
    place.record("ce", job_id="7")
    assert "nothing is known of jobs in Slurm" in place.find().problem


def test_squeue_itself_says_that_there_is_no_cluster(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 'squeue: fatal: Could not establish a configuration source' >&2; exit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(slurm.NoClusterError, match="squeue failed"):
        slurm.queued_jobs([tmp_path])


def test_lines_that_make_no_sense_are_left_out(place):
    place.answer = ["", "||||", "slurm_load_jobs error", line("x", JobArrayID="1")[:50]]
    assert place.find().by_ref == {}


def test_a_job_that_was_seen_to_be_preempted_says_so_when_it_waits_again(place):
    folder = place.job_dir(place.name("ce"))
    finder, script = JobFinder(place.plan, {}), folder / ".submission_file_1.sh"

    def look(**values):
        place.answer = [line(script, JobArrayID="7", **values)]
        return finder.find().by_ref[place.refs["ce"]][0].job

    assert look(PreemptTime="2026-01-01T00:00:00").preempted is not None
    assert look(State="PENDING", RestartCnt="1").was_preempted
    assert look(RestartCnt="1").was_preempted
    assert not look(RestartCnt="2").was_preempted


def test_jobs_that_are_cancelled_are_marked_first(place, monkeypatch):
    folder = place.job_dir(place.name("ce"))
    place.answer = [line(folder / ".submission_file_1.sh", JobArrayID="7")]
    seen = []
    monkeypatch.setattr(states, "cancel", lambda ids: seen.append((list(ids), (folder / "cancelled").exists())) or [])
    assert cancel(place.find().living()).ended == [f"{place.name('ce')}, job 7"]
    assert seen == [(["7"], True)]
    assert Attempts([place.folder]).last(place.plan.stages[place.refs["ce"]]).is_cancelled


def test_what_slurm_refuses_to_cancel_is_a_problem(place, monkeypatch):
    folder = place.job_dir(place.name("ce"))
    place.answer = [line(folder / ".submission_file_1.sh", JobArrayID="7")]
    monkeypatch.setattr(states, "cancel", list)
    outcome = cancel(place.find().living())
    assert outcome.ended == []
    assert "scancel 7" in outcome.problems[0]


CONTROLLER = "import time, sys\nsys.stdout.write('up\\n'); sys.stdout.flush()\ntime.sleep(60)\n"


@pytest.fixture
def controller(tmp_path):
    """A process that looks like the controller of a local job: `python -m …job.controller FOLDER`."""
    package = tmp_path / "fake" / "snakemake_executor_plugin_submitit" / "job"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "controller.py").write_text(CONTROLLER)
    folder = tmp_path / "a folder" / "job" / "1"
    variables = os.environ | {"PYTHONPATH": str(tmp_path / "fake"), "CUDA_VISIBLE_DEVICES": "1,3"}
    command = [sys.executable, "-m", "snakemake_executor_plugin_submitit.job.controller", str(folder)]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    yield process, folder
    process.kill()
    process.wait()


def test_a_local_job_is_known_by_its_process_and_ended(controller):
    process, folder = controller
    (job,) = (job for job in local.local_jobs() if job.folder == folder)
    assert (job.job_id, job.gpus, job.gpu_names) == (str(process.pid), 2, "1,3")
    assert abs(job.start - time.time()) < 60
    assert local.end(job)
    assert process.wait(20) == -signal.SIGTERM
    assert not local.end(job)


def test_a_process_that_has_the_number_of_a_local_job_by_now_is_left_alone(controller):
    process, folder = controller
    assert not local.end(Job("local", str(process.pid), folder.parent / "2", "RUNNING"))
    assert not local.end(Job("local", str(os.getpid()), folder, "RUNNING"))
    assert process.poll() is None


def test_a_note_that_names_some_process_makes_nobody_interrupt_it(tmp_path, monkeypatch):
    from snakemake_executor_plugin_submitit.tracking.locks import note_owner

    monkeypatch.chdir(tmp_path)
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("store/x/manifest.json\n")
    note_owner(locks, [locks / "0.output.lock"])  # of this process, which is no Snakemake
    assert mains.main_processes() == []
    assert not mains.interrupt(mains.MainProcess(os.getpid(), "here", True, frozenset()))
