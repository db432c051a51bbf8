"""`spikedistill verify`: what it says about each artifact, and what `--set-aside` moves."""

import argparse
import errno

import pytest

from spikedistill.cli import checks
from spikedistill.store.artifacts import Store, UnreadableError
from spikedistill.store.lease import Lease, lease_path
from tests.unit.store.users import ALICE, BOB, as_user, needs_root

FIRST, SECOND, THIRD = (f"data/{name}-0123456789" for name in "abc")


@pytest.fixture
def three(store, put):
    for ref in (FIRST, SECOND, THIRD):
        put(store, ref)
    return store


@pytest.fixture
def verify(monkeypatch, capsys):
    """Function that runs `spikedistill verify` on a store; returns the status and what it prints."""

    def verify(store, *, set_aside=False):
        plan = argparse.Namespace(config=argparse.Namespace(store=str(store.root)))
        monkeypatch.setattr(checks, "load_plan", lambda options: plan)
        return checks._verify(argparse.Namespace(names=[], set_aside=set_aside)), capsys.readouterr().out

    return verify


def damage(store, ref):
    (store.path(ref) / "weights.bin").write_bytes(b"wrong")


def aside(store):
    folder = store.root / ".set-aside"
    return sorted(path.name.rsplit("-", 2)[0] for path in folder.iterdir()) if folder.exists() else []


def test_what_is_damaged_is_named_and_moved_only_when_asked(three, verify):
    damage(three, SECOND)
    status, out = verify(three)
    assert status == 1
    assert f"damaged  {SECOND}: weights.bin: 5 bytes" in out
    assert out.endswith("3 artifacts, 1 damaged\n")
    assert three.refs() == [FIRST, SECOND, THIRD]
    status, out = verify(three, set_aside=True)
    assert status == 0
    assert "run snakemake to have it built again" in out
    assert three.refs() == [FIRST, THIRD]
    assert aside(three) == ["b-0123456789"]
    assert list((three.root / ".work").iterdir()) == []


def test_what_was_made_anew_or_removed_after_it_was_found_damaged_is_not_moved(three, put, verify, monkeypatch):
    for ref in (FIRST, SECOND):
        damage(three, ref)

    def found(store, ref, real=checks._verified):
        state = real(store, ref)
        if ref == FIRST:
            store.set_aside(ref)
            put(store, ref)
        if ref == SECOND:
            store.set_aside(ref)
        return state

    monkeypatch.setattr(checks, "_verified", found)
    status, out = verify(three, set_aside=True)
    assert status == 0
    assert out.count("not moved: it was mended meanwhile") == 2
    assert three.refs() == [FIRST, THIRD]
    assert three.verify(FIRST) is None
    assert aside(three) == ["a-0123456789", "b-0123456789"]


def test_what_could_not_be_read_is_named_and_stays(three, verify, monkeypatch):
    damage(three, THIRD)

    def read(store, ref, real=Store.verify):
        if ref == FIRST:
            raise UnreadableError(f"weights.bin: could not be read: {errno.ESTALE}")
        return real(store, ref)

    monkeypatch.setattr(Store, "verify", read)
    status, out = verify(three, set_aside=True)
    assert status == 1
    assert f"unknown  {FIRST}: weights.bin: could not be read" in out
    assert out.endswith("3 artifacts, 1 damaged, 1 could not be read\n")
    assert three.refs() == [FIRST, SECOND]


def test_what_a_running_job_makes_is_not_moved(three, verify):
    damage(three, FIRST)
    damage(three, THIRD)
    lease = Lease(lease_path(three.work(FIRST)), "a job")
    assert lease.acquire()
    status, out = verify(three, set_aside=True)
    lease.release()
    assert status == 1
    assert "not moved: a running job holds its lease" in out
    assert three.refs() == [FIRST, SECOND]


@needs_root
def test_what_cannot_be_moved_is_named_and_the_rest_is(shared_store, put, verify):
    def two(ref):
        put(shared_store, ref)
        damage(shared_store, ref)

    as_user(ALICE, lambda: two(FIRST))
    as_user(BOB, lambda: two(SECOND))
    status, out = as_user(BOB, lambda: verify(shared_store, set_aside=True))
    assert status == 1
    assert "not moved: [Errno 13] Permission denied" in out
    assert shared_store.refs() == [FIRST]
