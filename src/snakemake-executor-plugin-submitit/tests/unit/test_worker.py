"""A worker by itself, as a process that serves a folder of tickets: its limits, and how it leaves."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_lab.main_process import lines, wait_for
from slurm_lab.running import environment
from snakemake_executor_plugin_submitit.job.task import GIVEN_GPUS
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.worker.loop import Terms, Worker
from snakemake_executor_plugin_submitit.worker.tickets import Ticket, TicketFolder

pytestmark = pytest.mark.slow
PROGRAM = """\
import sys
from pathlib import Path
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.worker.loop import Terms, Worker

slots, limit_s, idle_s = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
offered = Request(cpus_per_task=slots, mem_mb=100 * slots)
worker = Worker(Path(sys.argv[1]), Terms(slots, offered, limit_s, idle_s), sys.argv[5], umask=0o022, on_slurm=False)
worker.enter("log", "folder")
print("jobs:", worker.work())
"""


class Pool:
    def __init__(self, root):
        self.root, self.tickets, self.count = root, TicketFolder(root / "pool"), 0
        self.tickets.create()
        (root / "ended").mkdir()

    def put(self, command, **changes):
        """Queue a command of bash; returns the folder of its job."""
        name = f"job{self.count}"
        job_dir = self.root / name
        job_dir.mkdir()
        ticket = Ticket(
            uid=name,
            name=name,
            command=command,
            arguments=None,
            cwd=str(self.root),
            job_dir=str(job_dir),
            done_marker=str(self.root / "ended" / name),
            runtime_s=60.0,
            cpus=1,
            mem_mb=100,
            gpus=0,
            max_requeues=1,
        )
        self.tickets.put(replace(ticket, **changes), self.count)
        self.count += 1
        return job_dir

    def start(self, *, slots=1, limit_s=600.0, idle_s=1.0, name="7.0", output=subprocess.PIPE):
        arguments = [str(self.tickets.folder), str(slots), str(limit_s), str(idle_s), name]
        command = [sys.executable, "-u", "-c", PROGRAM, *arguments]
        return subprocess.Popen(command, cwd=self.root, env=environment(), stdout=output, stderr=subprocess.STDOUT, text=True)

    def work(self, **terms):
        worker = self.start(**terms)
        output, _ = worker.communicate(timeout=300)
        assert worker.returncode == 0, output
        return output


@pytest.fixture
def pool(tmp_path):
    return Pool(tmp_path)


def result(job_dir):
    return json.loads((job_dir / "result.json").read_text())


def test_each_job_has_its_log_its_result_and_its_mark_and_the_claim_is_given_up(pool):
    good, bad = pool.put("echo well"), pool.put("echo ill; exit 3")
    assert "jobs: 2" in pool.work()
    assert [result(job)["status"] for job in (good, bad)] == [0, 3]
    assert lines(good / "pool_0_log.out")[-1] == "well"
    assert sorted(path.name for path in (pool.root / "ended").iterdir()) == ["job0", "job1"]
    assert pool.tickets.claimed() == {}


def test_a_job_for_which_the_time_does_not_suffice_is_left_for_another_worker(pool):
    pool.put("touch long", runtime_s=1000.0)
    pool.put("touch short", runtime_s=10.0)
    assert "jobs: 1" in pool.work(limit_s=500.0, idle_s=60.0)
    assert not (pool.root / "long").exists()
    assert list(pool.tickets.waiting()) == ["job0"]


def test_a_job_that_needs_more_than_the_worker_has_is_left_for_another_worker(pool):
    for need in ({"cpus": 2}, {"mem_mb": 101}, {"gpus": 1}):
        pool.put("touch taken", **need)
    assert "jobs: 0" in pool.work(idle_s=60.0)
    assert len(pool.tickets.waiting()) == 3


def test_a_job_that_has_to_run_alone_does(pool):
    for number, alone in enumerate((False, True, False, False)):
        pool.put(f"echo +{number} >> log; sleep 0.5; echo -{number} >> log", alone=alone)
    assert "jobs: 4" in pool.work(slots=2)
    log = lines(pool.root / "log")
    assert log.index("-1") == log.index("+1") + 1
    assert log.index("+1") == log.index("-0") + 1


def test_a_job_at_its_time_limit_is_stopped_and_starts_again_as_often_as_allowed(pool):
    job = pool.put("echo x >> starts; sleep 600", runtime_s=1.0)
    pool.put("touch other")
    pool.work()
    assert len(lines(pool.root / "starts")) == 2
    assert {k: result(job)[k] for k in ("state", "reason")} == {
        "state": "TIMEOUT",
        "reason": "the time limit was reached 2 times",
    }
    assert (pool.root / "other").exists()


def test_a_job_whose_ticket_is_withdrawn_is_stopped_and_has_no_result(pool):
    job = pool.put("touch begun; trap 'touch stopped; exit 0' TERM; sleep 600 & wait")
    worker = pool.start()
    wait_for((pool.root / "begun").exists, 120)
    assert pool.tickets.revoke("job0")
    worker.communicate(timeout=120)
    assert (pool.root / "stopped").exists()
    assert not (job / "result.json").exists()


def test_a_program_saves_after_its_shell_has_ended(pool):
    pool.put("sh -c 'trap \"sleep 2; touch saved; exit 0\" TERM; touch begun; sleep 600 & wait' && touch out", max_requeues=0)
    worker = pool.start()
    wait_for((pool.root / "begun").exists, 120)
    assert pool.tickets.revoke("job0")
    worker.communicate(timeout=120)
    assert (pool.root / "saved").exists()
    assert not (pool.root / "out").exists()


def test_a_job_that_forks_and_stays_within_its_memory_is_left_alone_beside_one_that_does_not(pool):
    small = pool.put("for i in 1 2 3; do python3 -c 'import time; time.sleep(1)' & done; wait", mem_mb=100)
    large = pool.put(f"{sys.executable} -c 'import time; a = bytearray(200 << 20); time.sleep(600)'", mem_mb=100)
    pool.work(slots=2)
    assert result(small)["status"] == 0
    assert result(large)["state"] == "OUT_OF_MEMORY"
    assert result(large)["usage"]["peak_mb"] > 100


def test_what_a_job_leaves_behind_ends_with_it(pool):
    pool.put("sleep 600 & echo $! > pid")
    pool.work()
    left = Path("/proc") / (pool.root / "pid").read_text().strip()
    wait_for(lambda: not left.exists(), 30, f"{left} to be gone")


def test_a_result_that_cannot_be_written_makes_the_worker_leave_with_an_error_and_keep_the_claim(pool):
    job = pool.put("rm -r job0")
    pool.put("touch other")
    worker = pool.start()
    output, _ = worker.communicate(timeout=120)
    assert worker.returncode == 1
    assert "job0: its result cannot be written" in output
    assert pool.tickets.claimed() == {"job0": "7.0"}
    assert list(pool.tickets.waiting()) == ["job1"]
    assert not job.exists()


def test_jobs_run_to_their_end_although_the_log_of_their_worker_cannot_be_written(pool):
    jobs = [pool.put(f"sleep 0.5; touch made{number}") for number in range(3)]
    with Path("/dev/full").open("w") as full:
        pool.start(slots=2, output=full).wait(timeout=120)
    assert [result(job)["status"] for job in jobs] == [0, 0, 0]
    assert all((pool.root / f"made{number}").exists() for number in range(3))


def test_a_restarted_worker_takes_back_what_it_held_and_nothing_of_others(pool):
    pool.put("echo x >> first")
    pool.put("echo x >> second")
    for worker in ("7.0", "8.0"):
        pool.tickets.enter(worker, {})
        pool.tickets.claim(worker, lambda ticket: True)
    assert "restarted; 1 jobs are queued again" in pool.work(name="7.1")
    assert lines(pool.root / "first") == ["x"]
    assert not (pool.root / "second").exists()


def test_a_worker_does_not_work_in_a_folder_where_others_may_write(pool):
    pool.put("touch done")
    (pool.tickets.folder / "queue").chmod(0o777)
    worker = pool.start()
    output, _ = worker.communicate(timeout=120)
    assert worker.returncode != 0
    assert "others may write tickets there" in output
    assert not (pool.root / "done").exists()


def test_a_closed_pool_is_left_at_once_when_it_is_empty(pool):
    pool.put("touch done")
    pool.tickets.close()
    assert "jobs: 1" in pool.work(idle_s=10_000.0)


@pytest.mark.parametrize(
    ("slots", "gpus", "on_slurm", "given", "seen"),
    [
        (1, 0, True, {"SLURM_JOB_GPUS": "3"}, "3,4"),  # as for gres=shard:2
        (1, 0, True, {}, ""),  # those of the shell that submitted it
        (1, 0, False, {"SLURM_JOB_GPUS": "3"}, ""),  # those of a job around the main process
        (2, 0, True, {"SLURM_JOB_GPUS": "3"}, ""),
        (2, 1, True, {"SLURM_JOB_GPUS": "3"}, "3"),
    ],
)
def test_a_job_sees_its_gpus_and_a_single_one_shares_of_gpus_too(pool, monkeypatch, slots, gpus, on_slurm, given, seen):
    for name in GIVEN_GPUS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"CUDA_VISIBLE_DEVICES": "3,4", **given}.items():
        monkeypatch.setenv(name, value)
    pool.put("true", gpus=gpus)
    terms = Terms(slots, Request(cpus_per_task=slots, gpus_per_node=2 * gpus, mem_mb=1000), 600.0, 1.0)
    worker = Worker(pool.tickets.folder, terms, "7.0", umask=0o022, on_slurm=on_slurm)
    pool.tickets.enter("7.0", {})
    claim = pool.tickets.claim("7.0", lambda ticket: True)
    share = worker._shares.take(Request(cpus_per_task=1, gpus_per_node=gpus, mem_mb=100))
    assert worker._variables(claim.ticket, share)["CUDA_VISIBLE_DEVICES"] == seen
