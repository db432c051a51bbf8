"""The tickets of a pool: who gets one, who may write one, what happens to those of a dead worker."""

import os
import threading
from dataclasses import replace

import pytest

from snakemake_executor_plugin_submitit.worker import tickets as module
from snakemake_executor_plugin_submitit.worker.tickets import Ticket, TicketFolder, job_id_of, read_ticket

TICKET = Ticket(
    uid="one+1",
    name="one",
    command="true",
    arguments=None,
    cwd=None,
    job_dir="/jobs/one/1",
    done_marker="/jobs/ended/one+1",
    runtime_s=60.0,
    cpus=1,
    mem_mb=0,
    gpus=0,
    max_requeues=3,
)


@pytest.fixture
def folder(tmp_path):
    found = TicketFolder(tmp_path / "pool")
    found.create()
    for worker in ("7.0", "8.0"):
        found.enter(worker, {"host": "node1"})
    return found


def put(folder, *uids):
    for number, uid in enumerate(uids):
        folder.put(replace(TICKET, uid=uid), number)


def everything(ticket):
    return True


def test_tickets_are_claimed_oldest_first_and_a_claim_names_its_worker(folder):
    put(folder, "b", "a", "c")
    assert folder.claim("7.0", everything).ticket.uid == "b"
    assert folder.claim("8.0", everything).ticket.uid == "a"
    assert folder.claimed() == {"b": "7.0", "a": "8.0"}
    assert list(folder.waiting()) == ["c"]


def test_what_does_not_fit_is_left_for_others(folder):
    put(folder, "large", "small")
    assert folder.claim("7.0", lambda ticket: ticket.uid == "small").ticket.uid == "small"
    assert list(folder.waiting()) == ["large"]
    assert folder.claim("7.0", lambda ticket: False) is None


def test_of_many_workers_that_want_the_same_tickets_each_ticket_goes_to_one(folder):
    put(folder, *map(str, range(200)))
    taken = {worker: [] for worker in ("7.0", "8.0", "9.0", "10.0")}
    start = threading.Barrier(len(taken))

    def work(worker):
        if worker not in folder.workers():
            folder.enter(worker, {})
        start.wait()
        while (claim := folder.claim(worker, everything)) is not None:
            taken[worker].append(claim.ticket.uid)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(uid for uids in taken.values() for uid in uids) == sorted(map(str, range(200)))
    assert len(folder.claimed()) == 200


def test_a_ticket_that_is_given_back_keeps_its_place_and_has_its_changes(folder):
    put(folder, "a", "b")
    claim = folder.claim("7.0", everything)
    assert folder.give_back(claim, timeouts=1)
    assert list(folder.waiting()) == ["a", "b"]
    assert folder.claim("8.0", everything).ticket == replace(TICKET, uid="a", timeouts=1)


def test_all_tickets_of_a_dead_worker_are_given_back_and_those_of_others_stay(folder):
    put(folder, "a", "b", "c")
    for worker in ("7.0", "8.0", "7.0"):
        folder.claim(worker, everything)
    assert folder.give_back_all(["7.0"]) == 2
    assert list(folder.waiting()) == ["a", "c"]
    assert folder.claimed() == {"b": "8.0"}
    assert folder.give_back_all(["7.0"]) == 0


def test_a_claim_that_was_withdrawn_is_not_held_and_not_given_back(folder):
    put(folder, "a")
    claim = folder.claim("7.0", everything)
    assert claim.is_held()
    assert folder.revoke("a")
    assert not claim.is_held()
    assert not folder.give_back(claim, timeouts=1)
    assert not folder.waiting()
    assert not folder.revoke("a")


def test_a_waiting_ticket_is_withdrawn_once_and_never_from_a_worker(folder):
    put(folder, "a", "b")
    assert folder.withdraw("a")
    assert not folder.withdraw("a")
    folder.claim("7.0", everything)
    assert not folder.withdraw("b")


def test_closing_leaves_the_queue_and_abolishing_takes_it_away(folder):
    put(folder, "a", "b")
    assert not folder.is_closed()
    folder.close()
    assert folder.is_closed()
    assert folder.claim("7.0", everything) is not None
    folder.abolish()
    assert folder.claim("7.0", everything) is None
    assert folder.waiting() == {}


def test_the_name_of_a_worker_tells_its_job():
    assert job_id_of("4711_3.2") == "4711_3"


def test_nobody_else_can_read_or_write_tickets(folder):
    put(folder, "a")
    for path in folder.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    folder.check()


@pytest.mark.parametrize("name", [".", "queue", "claims"])
def test_a_folder_in_which_others_may_write_is_refused(folder, name):
    (folder.folder / name).chmod(0o770)
    with pytest.raises(PermissionError, match="others may write tickets there"):
        folder.check()


def test_a_ticket_that_others_may_write_or_that_is_a_link_is_not_read(folder, tmp_path):
    put(folder, "a", "b", "c")
    first, second, _ = (folder.folder / "queue" / name for name in folder.waiting().values())
    first.chmod(0o666)
    second.rename(tmp_path / "elsewhere.json")
    second.symlink_to(tmp_path / "elsewhere.json")
    assert read_ticket(first) is None
    assert read_ticket(second) is None
    assert folder.claim("7.0", everything).ticket.uid == "c"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_ticket_of_another_user_is_not_read(folder):
    put(folder, "a")
    (name,) = folder.waiting().values()
    os.chown(folder.folder / "queue" / name, 65534, -1)
    assert folder.claim("7.0", everything) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"uid": "a"}', "null"])
def test_a_damaged_ticket_is_left_alone(folder, text):
    put(folder, "a", "b")
    damaged = folder.folder / "queue" / folder.waiting()["a"]
    damaged.write_text(text)
    assert folder.claim("7.0", everything).ticket.uid == "b"


def test_a_rename_that_the_server_denies_but_did_counts_as_done(folder, monkeypatch):
    put(folder, "a")

    def rename_twice(path, target):
        os.replace(path, target)  # noqa: PTH105 - Path.rename is replaced
        raise FileNotFoundError(path)

    monkeypatch.setattr(module.Path, "rename", rename_twice)
    assert folder.claim("7.0", everything).ticket.uid == "a"
