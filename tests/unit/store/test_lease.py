"""One writer per artifact: leases, takeovers, and the fence that stops a writer who lost its lease."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spikedistill.store import lease
from spikedistill.store.artifacts import Store
from spikedistill.store.lease import LeaseLostError

FAR = {"owner": "far", "host": "elsewhere", "pid": 1, "token": "t", "process": None}


@pytest.fixture
def quick(monkeypatch):
    """Seconds instead of minutes."""
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(lease, "STALE_S", 1.0)
    monkeypatch.setattr(lease, "POLL_S", 0.1)


def test_a_second_holder_waits_until_the_first_is_done(tmp_path):
    order = []
    first_in = threading.Event()

    def first():
        with lease.held(tmp_path / "a" / "lease", "one", lambda: False) as mine:
            assert mine
            first_in.set()
            time.sleep(0.5)
            order.append("first done")

    thread = threading.Thread(target=first)
    thread.start()
    assert first_in.wait(10)
    with lease.held(tmp_path / "a" / "lease", "two", lambda: False) as mine:
        assert mine
        order.append("second in")
    thread.join()
    assert order == ["first done", "second in"]


def test_waiting_ends_when_there_is_nothing_left_to_do(tmp_path):
    with (
        lease.held(tmp_path / "lease", "one", lambda: False),
        lease.held(tmp_path / "lease", "two", lambda: True) as mine,
    ):
        assert not mine


def test_the_lease_of_a_killed_process_is_taken_over(tmp_path):
    path = tmp_path / "lease"
    program = (
        "import sys, os, pathlib; from spikedistill.store import lease\n"
        "with lease.held(pathlib.Path(sys.argv[1]), 'dead', lambda: False): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    assert path.exists()
    with lease.held(path, "alive", lambda: False) as mine:
        assert mine
        assert json.loads(path.read_text())["owner"] == "alive"
    assert not path.exists()


def test_other_ranks_go_on_once_rank_0_of_their_own_job_holds_the_lease(tmp_path):
    path = tmp_path / "lease"
    path.write_text(json.dumps({"owner": "another job", "host": "elsewhere", "pid": 1}))
    assert not lease.wait_for_owner(path, "our job", lambda: True)
    path.write_text(json.dumps({"owner": "our job", "host": "elsewhere", "pid": 1}))
    assert lease.wait_for_owner(path, "our job", lambda: False)


@pytest.mark.slow
@pytest.mark.parametrize("offset_s", [-3600, 0, 3600], ids=["slow clock", "same clock", "fast clock"])
def test_a_lease_whose_heartbeat_is_seen_is_never_taken_over_whatever_its_date(tmp_path, quick, offset_s):
    path = tmp_path / "lease"
    path.write_text(json.dumps(FAR))
    stop = threading.Event()

    def beat():
        while not stop.wait(0.1):
            now = time.time() + offset_s
            os.utime(path, (now, now))

    thread = threading.Thread(target=beat)
    thread.start()
    start = time.monotonic()
    try:
        with lease.held(path, "here", lambda: time.monotonic() - start > 3 * lease.STALE_S) as mine:
            assert mine is None
    finally:
        stop.set()
        thread.join()
    assert json.loads(path.read_text()) == FAR


@pytest.mark.slow
@pytest.mark.parametrize("content", [json.dumps(FAR), "{}", "[]", "", "not json", '{"owner": 1}', "[" * 5000], ids=repr)
def test_a_lease_without_a_heartbeat_is_taken_over_after_a_while_whatever_it_holds(tmp_path, quick, content):
    path = tmp_path / "lease"
    path.write_text(content)
    future = time.time() + 86400
    os.utime(path, (future, future))
    start = time.monotonic()
    with lease.held(path, "here", lambda: False) as mine:
        assert mine
        assert time.monotonic() - start >= lease.STALE_S


def test_a_zombie_and_an_impossible_pid_hold_nothing(tmp_path, quick):
    path = tmp_path / "lease"
    program = (
        "import sys, os, pathlib; from spikedistill.store import lease\n"
        "with lease.held(pathlib.Path(sys.argv[1]), 'zombie', lambda: False): os.kill(os.getpid(), 9)"
    )
    zombie = subprocess.Popen([sys.executable, "-c", program, str(path)])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has waited for it
    start = time.monotonic()
    with lease.held(path, "here", lambda: False) as mine:
        assert mine
        assert time.monotonic() - start < lease.STALE_S
    zombie.wait()
    path.write_text(json.dumps({**FAR, "pid": 2**80, "process": {"pid": 2**80}}))
    with lease.held(path, "here", lambda: False) as mine:
        assert mine


WRITER = """
import os, pathlib, sys, time
from spikedistill.store import lease
from spikedistill.store.artifacts import Store
lease.HEARTBEAT_S, lease.STALE_S, lease.POLL_S = 0.1, 1.0, 0.1
store, name, seconds = Store(sys.argv[1]), sys.argv[2], float(sys.argv[3])
done = lambda: store.is_current("data/x", ())
try:
    with lease.held(store.root / ".work" / "x" / "lease", name, done) as mine:
        if mine and not done():
            with store.building("data/x", {}, (), fence=mine.check) as build:
                print("building", flush=True)
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    time.sleep(0.05)
                    with (build.folder / "a").open("a") as stream:
                        stream.write(name)
                (build.folder / "a").write_text(name * 100_000)
    print("done", flush=True)
except lease.LeaseLostError as err:
    print("lost:", err, flush=True)
"""


def writer(store, name, seconds):
    command = [sys.executable, "-c", WRITER, str(store), name, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_line(process, text):
    line = process.stdout.readline()
    assert text in line, line + process.stderr.read()


@pytest.mark.slow
def test_a_writer_that_was_suspended_too_long_loses_its_lease_and_says_so(tmp_path):
    first = writer(tmp_path, "first", 2)
    wait_for_line(first, "building")
    first.send_signal(signal.SIGSTOP)
    second = writer(tmp_path, "second", 4)
    wait_for_line(second, "building")
    first.send_signal(signal.SIGCONT)
    out, errors = first.communicate(timeout=60)
    assert "lost: x: this process lost its lease: process" in out, out + errors
    assert f"process {second.pid} on" in out
    out, errors = second.communicate(timeout=60)
    assert out == "done\n", out + errors
    assert (tmp_path / "data/x/a").read_text() == "second" * 100_000
    assert Store(tmp_path).verify("data/x") is None
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["x"]


def test_a_writer_that_goes_on_after_the_other_has_finished_changes_nothing(tmp_path):
    first = writer(tmp_path, "first", 1)
    wait_for_line(first, "building")
    first.send_signal(signal.SIGSTOP)
    second = writer(tmp_path, "second", 0)
    assert second.communicate(timeout=60)[0] == "building\ndone\n"
    before = (tmp_path / "data/x/manifest.json").read_bytes()
    first.send_signal(signal.SIGCONT)
    out, errors = first.communicate(timeout=60)
    assert "lost: x: this process lost its lease: a run that took it over has finished" in out, out + errors
    assert (tmp_path / "data/x/manifest.json").read_bytes() == before
    assert Store(tmp_path).verify("data/x") is None


def test_the_fence_is_checked_before_a_commit(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 1000.0)
    store, path = Store(tmp_path), tmp_path / ".work" / "x" / "lease"
    with (
        pytest.raises(LeaseLostError, match="process 1 on elsewhere took it over"),
        lease.held(path, "here", lambda: False) as mine,
        store.building("data/x", {}, (), fence=mine.check),
    ):
        path.unlink()
        path.write_text(json.dumps(FAR))
    assert store.status("data/x") == "missing"
    assert json.loads(path.read_text()) == FAR


def test_a_result_that_was_made_meanwhile_stays(tmp_path):
    store = Store(tmp_path)
    with store.building("data/x", {}, ()) as late:
        (late.folder / "a").write_text("late")
        with Store(tmp_path).building("data/x", {}, ()) as early:
            late.folder.mkdir(exist_ok=True)  # the other removed what it took for the remains of a killed build
            (late.folder / "a").write_text("late")
            (early.folder / "a").write_text("early")
    assert (tmp_path / "data/x/a").read_text() == "early"


def test_a_rename_that_succeeded_but_reported_an_error_is_a_success(tmp_path, monkeypatch):
    rename = Path.rename

    def rename_and_complain(self, target):
        rename(self, target)
        if self.name.endswith(".tmp") and self.is_dir() is False and Path(target).is_dir():
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", rename_and_complain)
    with Store(tmp_path).building("data/x", {}, ()) as build:
        (build.folder / "a").write_text("a")
    assert Store(tmp_path).verify("data/x") is None


def test_a_rename_that_failed_tells_its_cause_and_leaves_what_was_there(tmp_path, monkeypatch):
    store = Store(tmp_path)
    with store.building("data/up", {}, ()) as build:
        (build.folder / "a").write_text("one")
    with store.building("data/x", {}, ("data/up",)) as build:
        (build.folder / "a").write_text("old")
    store.set_aside("data/up")
    with store.building("data/up", {}, ()) as build:
        (build.folder / "a").write_text("two")
    rename = Path.rename

    def fail(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"), store.building("data/x", {}, ("data/up",)) as build:
        (build.folder / "a").write_text("new")
    assert (tmp_path / "data/x/a").read_text() == "old"
    assert store.verify("data/x") is None


def test_another_rank_of_the_job_sees_whether_its_rank_0_still_holds_the_lease(tmp_path):
    path = lease.lease_path(tmp_path)
    mine = lease.Lease(path, "a job")
    assert mine.acquire()
    followed = lease.Followed(path)
    followed.check()
    mine.release()
    other = lease.Lease(path, "another job")
    assert other.acquire()
    with pytest.raises(lease.LeaseLostError, match="rank 0 of this job no longer holds its lease"):
        followed.check()
    other.release()
    with pytest.raises(lease.LeaseLostError):
        lease.Followed(path)
