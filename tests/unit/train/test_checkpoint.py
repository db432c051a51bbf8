"""Checkpoints survive a kill, a damaged file and a full folder."""

import logging
import pickle
import resource
from hashlib import sha256

import numpy as np
import pytest
import torch

from spikedistill.errors import TrainingError
from spikedistill.store.lease import LeaseLostError
from spikedistill.train.checkpoint import CheckpointFolder

CPU = torch.device("cpu")


def state(value):
    return {"model": {"weight": torch.full((3,), float(value))}, "optimizer": {"lr": 0.5}}


def saved(folder, *epochs):
    checkpoints = CheckpointFolder(folder, "spec-a")
    for epoch in epochs:
        checkpoints.save(epoch, 0, state(epoch))
    return checkpoints


def newest_file(folder):
    return max(folder.glob("epoch-*.pt"))


def test_nothing_saved_gives_none(tmp_path):
    assert CheckpointFolder(tmp_path / "absent", "spec-a").load_newest(CPU) is None


def test_newest_is_loaded(tmp_path):
    loaded = saved(tmp_path, 1, 2).load_newest(CPU)
    assert loaded["epoch"] == 2
    assert loaded["model"]["weight"].tolist() == [2.0, 2.0, 2.0]
    assert loaded["optimizer"] == {"lr": 0.5}


def test_newest_two_are_kept(tmp_path):
    saved(tmp_path, 9, 10, 11)
    assert sorted(p.name[:12] for p in tmp_path.iterdir()) == ["epoch-000010", "epoch-000011"]


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:]])
def test_damaged_newest_falls_back_with_a_warning(tmp_path, caplog, damage):
    checkpoints = saved(tmp_path, 3, 4)
    broken = newest_file(tmp_path)
    broken.write_bytes(damage(broken.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load_newest(CPU)["epoch"] == 3
    assert broken.name in caplog.text


def test_training_restarts_after_every_checkpoint_was_damaged(tmp_path):
    checkpoints = saved(tmp_path, 6, 7)
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert checkpoints.load_newest(CPU) is None
    checkpoints.save(1, 0, state(1))
    assert checkpoints.load_newest(CPU)["epoch"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_same_epoch_saved_again_replaces_a_damaged_one(tmp_path):
    checkpoints = saved(tmp_path, 3, 4)
    newest_file(tmp_path).write_bytes(b"damaged")
    checkpoints.save(4, 0, state(44))
    assert checkpoints.load_newest(CPU)["model"]["weight"][0] == 44
    assert sorted(p.name[:12] for p in tmp_path.iterdir()) == ["epoch-000003", "epoch-000004"]


def test_checkpoint_of_another_spec_is_refused(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(TrainingError, match="belongs to run spec-a, not to spec-b"):
        CheckpointFolder(tmp_path, "spec-b").load_newest(CPU)


def test_leftover_of_a_killed_save_is_ignored_and_removed(tmp_path):
    left = tmp_path / ".epoch-000002-step-00000000-0123456789abcdef.pt.99999.tmp"
    left.write_bytes(b"half")
    checkpoints = CheckpointFolder(tmp_path, "spec-a")
    assert checkpoints.load_newest(CPU) is None
    checkpoints.save(1, 0, state(1))
    assert not left.exists()


def test_a_run_that_was_taken_over_touches_nothing_of_the_other_one(tmp_path):
    saved(tmp_path, 7, 8)
    (tmp_path / ".epoch-000009-step-00000000-0123456789abcdef.pt.99999.tmp").write_bytes(b"being written")
    before = sorted(tmp_path.iterdir())

    def lost():
        raise LeaseLostError("this process lost its lease")

    with pytest.raises(LeaseLostError):
        CheckpointFolder(tmp_path, "spec-a", fence=lost).save(5, 100, state(5))
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_that_is_taken_over_while_it_writes_removes_nothing(tmp_path):
    saved(tmp_path, 7, 8)
    answers = iter([None, LeaseLostError("lost meanwhile")])

    def lost():
        if (answer := next(answers)) is not None:
            raise answer

    with pytest.raises(LeaseLostError):
        CheckpointFolder(tmp_path, "spec-a", fence=lost).save(5, 100, state(5))
    assert {p.name[:12] for p in tmp_path.iterdir()} == {"epoch-000005", "epoch-000007", "epoch-000008"}


def test_a_state_that_could_not_be_loaded_again_is_refused_when_it_is_saved(tmp_path):
    checkpoints = saved(tmp_path)
    with pytest.raises(TrainingError, match=r"could not be loaded again: .*consist of tensors, numbers"):
        checkpoints.save(1, 0, state(1) | {"optimizer": {"lr": np.float64(0.5)}})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_read_stops_training_and_none_is_removed(tmp_path):
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "epoch-000002-step-00000000-0123456789abcdef.pt").mkdir()
    with pytest.raises(TrainingError, match=r"epoch-000002.*: the checkpoint cannot be read: Is a directory"):
        checkpoints.load_newest(CPU)


def test_a_million_epochs_are_in_order(tmp_path):
    checkpoints = saved(tmp_path, 999_998, 999_999, 1_000_000)
    assert checkpoints.load_newest(CPU)["epoch"] == 1_000_000
    assert len(list(tmp_path.iterdir())) == 2


def test_steps_of_an_epoch_come_after_it_and_before_the_next(tmp_path):
    checkpoints = saved(tmp_path, 3)
    checkpoints.save(3, 9, state(3.9))
    checkpoints.save(3, 10, state(3.1))
    loaded = checkpoints.load_newest(CPU)
    assert (loaded["epoch"], loaded["step"]) == (3, 10)
    checkpoints.save(4, 0, state(4))
    assert checkpoints.load_newest(CPU)["epoch"] == 4
    assert sorted(p.name[:26] for p in tmp_path.iterdir()) == ["epoch-000003-step-00000010", "epoch-000004-step-00000000"]


@pytest.mark.parametrize("content", [b"no archive", pickle.dumps({"epoch": 1}, 2), pickle.dumps(print, 2)])
def test_intact_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    name = f"epoch-000001-step-00000000-{sha256(content).hexdigest()[:16]}.pt"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match="is intact, but is not a checkpoint of spikedistill: move it away"):
        CheckpointFolder(tmp_path, "spec-a").load_newest(CPU)


def test_full_disk_leaves_the_checkpoint_before_intact_and_is_reported(tmp_path):
    """A limit on the size of files makes the write fail half-way, as a full disk does."""
    checkpoints = saved(tmp_path, 1)
    before = newest_file(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"could not be written: File too large\. The checkpoint before it is intact"):
            checkpoints.save(2, 0, {"model": {"weight": torch.ones(1_000_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [before]
    assert checkpoints.load_newest(CPU)["epoch"] == 1


def test_failed_write_is_reported_and_leaves_the_old_one(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = saved(folder, 1)
    before = newest_file(folder)
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(TrainingError, match="could not be written"):
        CheckpointFolder(blocker / "below", "spec-a").save(2, 0, state(2))
    assert newest_file(folder) == before
    assert checkpoints.load_newest(CPU)["epoch"] == 1
