"""A large file of an artifact is read once on a node, and again as soon as anything about it has changed."""

import json
import os
import platform
import shutil

import pytest

from spikedistill.errors import ArtifactError
from spikedistill.store import verified
from spikedistill.store.artifacts import Store
from spikedistill.store.verified import noted_sha256, sha256

REF = "data/digits-0123456789"


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Folder of the notes of this node, where every file counts as large and settled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verified, "LARGE_BYTES", 1)
    monkeypatch.setattr(verified, "SETTLED_S", -1.0)
    return tmp_path / "cache/spikedistill/verified" / platform.node()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "frames.npy"
    path.write_bytes(b"frames")
    return path


def answers_from_notes(notes, file):
    """Return True if the checksum of a file is taken from its note, which is given another one."""
    (note,) = notes.iterdir()
    content = json.loads(note.read_text())
    note.write_text(json.dumps({**content, "sha256": "noted"}))
    return noted_sha256(file) == "noted"


def test_an_unchanged_file_is_not_read_again(notes, file):
    assert noted_sha256(file) == sha256(file)
    assert answers_from_notes(notes, file)


def change_content(file):
    file.write_bytes(b"Frames")


def change_content_and_restore_times(file):
    found = file.stat()
    file.write_bytes(b"Frames")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def replace_by_a_copy(file):
    shutil.copy2(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


@pytest.mark.parametrize("change", [change_content, change_content_and_restore_times, replace_by_a_copy])
def test_a_file_that_changed_is_read_again(notes, file, change):
    noted_sha256(file)
    change(file)
    assert not answers_from_notes(notes, file)
    assert noted_sha256(file) == sha256(file)


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", '{"sha256": 3}', "[" * 100_000])
def test_a_damaged_note_is_ignored(notes, file, content):
    noted_sha256(file)
    (note,) = notes.iterdir()
    note.write_text(content)
    assert noted_sha256(file) == sha256(file)


def test_a_file_that_has_just_changed_is_not_noted(notes, file, monkeypatch):
    monkeypatch.setattr(verified, "SETTLED_S", 3600.0)
    noted_sha256(file)
    assert not list(notes.iterdir())


def test_small_files_are_always_read(notes, file, monkeypatch):
    monkeypatch.setattr(verified, "LARGE_BYTES", 7)
    noted_sha256(file)
    assert not notes.exists()


def test_notes_that_others_could_write_are_not_used(notes, file):
    noted_sha256(file)
    notes.chmod(0o777)
    assert not answers_from_notes(notes, file)


def test_without_a_place_for_notes_files_are_read(notes, file, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    assert noted_sha256(file) == sha256(file)


def test_a_stage_notices_a_change_and_verify_reads_everything(notes, tmp_path):
    store = Store(tmp_path / "store")
    with store.building(REF, {"stage": "preprocess"}, ()) as artifact:
        (artifact.folder / "frames.npy").write_bytes(b"frames")
    store.open(REF)
    assert len(list(notes.iterdir())) == 1
    (note,) = notes.iterdir()
    note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match="sha256 0000"):
        store.open(REF)  # it believes the note
    assert store.verify(REF) is None  # which this does not read
    note.unlink()
    (store.path(REF) / "frames.npy").write_bytes(b"Frames")
    with pytest.raises(ArtifactError, match=r"frames\.npy: sha256"):
        store.open(REF)
