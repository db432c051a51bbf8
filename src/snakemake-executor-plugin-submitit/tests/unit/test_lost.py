"""When a job that Slurm's answers leave out counts as lost; with real files, and a clock that the test sets."""

import errno
from types import SimpleNamespace

import pytest
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_submitit.executor import Executor, TrackedJob
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.submission import submit
from snakemake_executor_plugin_submitit.submission.states import SlurmQueue, State
from snakemake_executor_plugin_submitit.submission.submit import LOST_S, SubmittedJob

SEEN = {"5": State("RUNNING")}


class WithoutWorkflow(Executor):
    """Keeps what it would tell Snakemake."""

    def __init__(self, folder):
        self._cluster, self._done_dir, self._tracked, self._queue, self.told = "slurm", folder / "ended", {}, SlurmQueue(), []
        self.tracked = TrackedJob(SubmittedJobInfo(None, aux={"number": 0}), Request(), "", "work", ())
        self.tracked.job = SubmittedJob("slurm", folder / "work" / "1", "work", "5")
        self.tracked.job.folder.mkdir(parents=True)

    def report_job_success(self, job_info):
        self.told.append("success")

    def report_job_error(self, job_info, msg=None, **kwargs):
        self.told.append(msg)


@pytest.fixture
def clock(monkeypatch, tmp_path):
    clock = SimpleNamespace(now=1e6, monotonic=lambda: clock.now)
    monkeypatch.setattr(submit, "time", clock)
    monkeypatch.setenv("PATH", str(tmp_path))
    return clock


def test_a_job_is_lost_when_answers_left_it_out_for_long_not_when_nobody_asked_for_long(clock, tmp_path):
    main = WithoutWorkflow(tmp_path)
    for pause_s, answers in [(0, SEEN), (2 * LOST_S, {}), (9 * LOST_S, SEEN), (1, {}), (LOST_S - 1, {}), (9 * LOST_S, None)]:
        clock.now += pause_s
        assert not main._handle_outcome(main.tracked, answers, set())
    assert main._handle_outcome(main.tracked, {}, set())
    (told,) = main.told
    assert "Slurm knows nothing of this job any more" in told


def test_the_result_of_a_lost_job_counts_also_without_its_mark(clock, tmp_path):
    main = WithoutWorkflow(tmp_path)
    (main.tracked.job.folder / "result.json").write_text('{"status": 0}')
    assert not main._handle_outcome(main.tracked, {}, set())
    clock.now += 2 * LOST_S
    assert main._handle_outcome(main.tracked, {}, set())
    assert main.told == ["success"]


def test_a_job_that_slurm_has_taken_is_followed_although_its_id_cannot_be_noted(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self):
            self.notes = 0

        def note(self, submission):
            self.notes += 1
            if self.notes == 2:
                raise OSError(errno.ENOSPC, "No space left on device")

        def forget(self, submission):
            raise AssertionError("the first note leads to the job")

    main = WithoutWorkflow(tmp_path)
    main._folder, main._comment, main._names, main._next_query, main._registry = tmp_path, "", None, 0.0, FullDisk()
    main.logger, main._notices = SimpleNamespace(warning=print), SimpleNamespace(submitted=lambda *_: None)
    main._plan = lambda tracked: submit.Plan(tracked.name, tmp_path / "work" / "2", None)
    job = SubmittedJob("slurm", tmp_path / "work" / "2", "work", "9")
    monkeypatch.setattr(submit, "send", lambda plans, **_: [job])
    main.tracked.job = None
    main._send([main.tracked])
    assert main.tracked.refusal is None
    assert main.tracked.job.job_id == main.tracked.info.external_jobid == "9"
