"""Who may read what is shared: an export follows the umask, an artifact lets its group read it, too."""

import os
import stat
import threading

import pytest

from spikedistill.export.folder import write_export
from spikedistill.store import atomic
from spikedistill.store.artifacts import Store


@pytest.fixture
def set_umask():
    before = atomic.umask()
    yield os.umask
    os.umask(before)


def modes(*folders):
    found = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {
        kind: {oct(stat.S_IMODE(path.stat().st_mode)) for path in found if path.is_dir() == (kind == "folders")}
        for kind in ("folders", "files")
    }


@pytest.mark.parametrize(
    ("umask", "folders", "files"), [(0o022, "0o755", "0o644"), (0o002, "0o775", "0o664"), (0o077, "0o700", "0o600")]
)
def test_an_export_follows_the_umask(trained, tmp_path, set_umask, umask, folders, files):
    set_umask(umask)
    written = write_export(trained.store, trained.student, tmp_path / "exports" / "out", nir=True)
    assert len(written) == 4
    assert modes(tmp_path / "exports") == {"folders": {folders}, "files": {files}}


@pytest.mark.parametrize(
    ("umask", "folders", "files"), [(0o022, "0o755", "0o644"), (0o002, "0o775", "0o664"), (0o077, "0o750", "0o640")]
)
def test_an_artifact_can_be_read_by_its_group_whatever_library_wrote_it(tmp_path, set_umask, umask, folders, files):
    set_umask(umask)
    store = Store(tmp_path / "store")
    with store.building("students/one", {}, ()) as build:
        (build.folder / "plain").write_text("x")
        (build.folder / "below").mkdir()
        private = build.folder / "below" / "weights"
        private.touch(mode=0o600)  # as safetensors does
        private.chmod(0o600)
    assert modes(store.path("students/one")) == {"folders": {folders}, "files": {files}}


def test_nothing_that_stages_leave_behind_is_less_readable_than_the_umask_allows(trained):
    found = [*trained.store.root.glob("*/**/*"), *trained.results.rglob("*")]
    assert any(path.suffix == ".safetensors" for path in found)
    allowed = {path: (0o777 if path.is_dir() else 0o666) & ~atomic.umask() for path in found}
    assert [path for path in found if path.stat().st_mode & allowed[path] != allowed[path]] == []


def test_sharing_takes_no_rights_away_and_keeps_the_group_bit_of_a_folder(tmp_path, set_umask):
    set_umask(0o077)
    tmp_path.chmod(0o2775)
    atomic.share(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o2775


def test_the_umask_is_read_without_being_changed_for_other_threads(set_umask, monkeypatch):
    set_umask(0o027)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("changed"))
    assert atomic.umask() == 0o027


def test_the_umask_where_the_system_does_not_tell(set_umask, monkeypatch, tmp_path):
    set_umask(0o027)
    monkeypatch.setattr(atomic, "Path", lambda path: tmp_path / "nothing here")
    threads = [threading.Thread(target=lambda: [atomic.umask() for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert atomic.umask() == 0o027
