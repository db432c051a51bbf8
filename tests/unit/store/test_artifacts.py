import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from spikedistill.errors import ArtifactError
from spikedistill.launch import doctor
from spikedistill.store import artifacts
from spikedistill.store.artifacts import MANIFEST_BACKUP, Store, UnreadableError
from spikedistill.store.housekeeping import leave_work
from spikedistill.store.lease import Lease, lease_path
from spikedistill.store.provenance import Clock
from tests.unit.store.users import ALICE, BOB, as_user, needs_root

REF = "teachers/digits-net-0123456789"


def build(store: Store, ref: str = REF, content: bytes = b"weights", upstream: tuple[str, ...] = ()) -> None:
    with store.building(ref, {"stage": "teacher"}, upstream) as artifact:
        (artifact.folder / "weights.bin").write_bytes(content)
        artifact.provenance["host"] = "here"


def test_a_committed_artifact_opens_and_its_manifest_holds_spec_checksums_and_provenance(tmp_path):
    store = Store(tmp_path)
    build(store)
    folder = store.open(REF)
    assert (folder / "weights.bin").read_bytes() == b"weights"
    manifest = store.manifest(REF)
    assert manifest["spec"] == {"stage": "teacher"}
    assert manifest["host"] == "here"
    assert manifest["files"]["weights.bin"]["bytes"] == 7
    assert store.status(REF) == "complete"
    assert store.refs() == [REF]


def test_a_failure_while_building_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.building(REF, {}, ()) as artifact:
        (artifact.folder / "half").write_bytes(b"x")
        raise RuntimeError("killed")
    assert store.status(REF) == "missing"
    assert list((tmp_path / "teachers").iterdir()) == []


def test_a_flipped_byte_is_named_and_the_artifact_refused(tmp_path):
    store = Store(tmp_path)
    build(store)
    (store.path(REF) / "weights.bin").write_bytes(b"wEights")
    with pytest.raises(ArtifactError, match=r"digits-net-0123456789.*weights\.bin.*sha256.*verify --set-aside"):
        store.open(REF)


def test_a_copy_is_opened_if_its_files_are_those_of_the_store_and_else_named_and_left_alone(tmp_path, caplog):
    store, copy = Store(tmp_path / "store"), tmp_path / "disk" / Path(REF).name
    build(store)
    shutil.copytree(store.path(REF), copy)
    assert store.open_copy(REF, copy) == copy
    (copy / "weights.bin").write_bytes(b"wEights")
    assert store.open_copy(REF, copy) == store.path(REF)
    assert f"the copy of {REF} in {copy} is not used" in caplog.text and "weights.bin" in caplog.text
    (store.path(REF) / "weights.bin").write_bytes(b"wEights")
    with pytest.raises(ArtifactError, match="damaged artifact, not used"):
        store.open_copy(REF, copy)


def test_a_file_cut_short_and_a_missing_file_are_named(tmp_path):
    store = Store(tmp_path)
    build(store)
    (store.path(REF) / "weights.bin").write_bytes(b"w")
    assert "1 bytes, expected 7" in str(store.verify(REF))
    (store.path(REF) / "weights.bin").unlink()
    assert "No such file" in str(store.verify(REF))


def test_an_unreadable_manifest_is_damage_not_absence(tmp_path):
    store = Store(tmp_path)
    build(store)
    store.manifest_path(REF).write_text("{", encoding="utf-8")
    assert store.status(REF) == "unreadable"
    with pytest.raises(ArtifactError, match="damaged manifest"):
        store.open(REF)


def test_an_edited_manifest_is_noticed(tmp_path):
    store = Store(tmp_path)
    build(store)
    manifest = json.loads(store.manifest_path(REF).read_text())
    del manifest["files"]["weights.bin"]
    store.manifest_path(REF).write_text(json.dumps(manifest))
    assert "digest" in str(store.verify(REF))


def test_opening_what_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(ArtifactError, match="spikedistill submit digits-net-0123456789"):
        Store(tmp_path).open(REF)


def test_setting_aside_keeps_the_files_and_lets_the_artifact_be_built_again(tmp_path):
    store = Store(tmp_path)
    build(store, content=b"bad")
    kept = store.set_aside(REF)
    assert (kept / "weights.bin").read_bytes() == b"bad"
    assert store.status(REF) == "missing"
    assert store.refs() == []
    build(store, content=b"good")
    assert (store.open(REF) / "weights.bin").read_bytes() == b"good"


def test_building_over_an_empty_folder_and_over_remains_without_a_manifest_works(tmp_path):
    store = Store(tmp_path)
    store.path(REF).mkdir(parents=True)
    build(store)
    store.manifest_path(REF).unlink()
    (store.path(REF) / MANIFEST_BACKUP).unlink()
    build(store, content=b"again")
    assert (store.open(REF) / "weights.bin").read_bytes() == b"again"
    assert [p.name for p in (tmp_path / "teachers").iterdir()] == ["digits-net-0123456789"]


def test_a_manifest_that_snakemake_removed_is_put_back_with_its_age(tmp_path):
    store = Store(tmp_path)
    build(store)
    made = store.manifest_path(REF).stat()
    store.manifest_path(REF).unlink()
    assert store.status(REF) == "complete"
    assert store.manifest_path(REF).stat().st_mtime_ns == made.st_mtime_ns
    store.set_aside(REF)
    assert store.status(REF) == "missing"


def test_freshness_follows_the_content_of_the_upstream_artifact(tmp_path):
    store = Store(tmp_path)
    student = "students/digits-net-kd-seed0-9876543210"
    build(store)
    build(store, student, upstream=(REF,))
    assert store.is_current(student, [REF])
    store.set_aside(REF)
    assert not store.is_current(student, [REF])
    build(store, content=b"other weights")
    assert not store.is_current(student, [REF])
    store.set_aside(REF)
    build(store)
    assert store.is_current(student, [REF])


def test_what_is_missing_or_damaged_is_not_current_and_made_from_nothing(tmp_path):
    store = Store(tmp_path)
    student = "students/digits-net-kd-seed0-9876543210"
    assert not store.is_current(student, [])
    build(store)
    build(store, student, upstream=(REF,))
    assert list(store.made_from(REF, "students")) == [student]
    assert store.made_from(REF, "students")[student] == store.manifest(student)
    assert not store.is_current(student, [REF, "data/never-made-0123456789"])
    teacher_manifest = store.manifest_path(REF).read_text()
    store.manifest_path(REF).write_text(teacher_manifest[:-20])
    assert not store.is_current(student, [REF])
    assert store.made_from(REF, "students") == {}
    store.manifest_path(REF).write_text(teacher_manifest)
    store.manifest_path(student).write_text("{}")
    assert not store.is_current(student, [])
    assert store.made_from(REF, "students") == {}


def test_artifacts_are_readable_by_the_group_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        build(Store(tmp_path))
    finally:
        os.umask(old)
    folder = Store(tmp_path).path(REF)
    assert folder.stat().st_mode & 0o050 == 0o050
    assert (folder / "weights.bin").stat().st_mode & 0o040


def test_the_store_is_found_below_the_home_folder():
    assert Store("~/store").root == Path.home() / "store"


def test_a_store_that_is_a_file_is_refused_with_the_key_to_change(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError, match=r"is a file, not a folder; change `store:`"):
            Store(root).check()
    Store(tmp_path / "not" / "yet").check()
    assert not (tmp_path / "not").exists()


@needs_root
def test_a_shared_store_works_whatever_the_umask_of_its_users(shared_store):
    def make(ref):
        shared_store.check()
        work = shared_store.open_work(ref)
        lease = Lease(lease_path(work), "a job", heartbeat=False)
        assert lease.acquire()
        build(shared_store, ref)
        lease.release()
        leave_work(work)
        return shared_store.set_aside(ref) if ref.endswith("-0000000009") else None

    for user, ref in [(ALICE, "teachers/a-0000000009"), (BOB, "teachers/b-0000000009"), (BOB, REF), (ALICE, "data/a-0000000000")]:
        as_user(user, lambda ref=ref: make(ref))
    assert shared_store.refs() == ["data/a-0000000000", REF]
    assert len(list((shared_store.root / ".set-aside").iterdir())) == 2


def test_the_folders_of_a_store_are_for_the_group_only_if_the_store_is(tmp_path):
    (tmp_path / "store").mkdir()
    for mode in (0o755, 0o775):
        (tmp_path / "store").chmod(mode)
        build(Store(tmp_path / "store"), "data/x-0123456789" if mode == 0o755 else REF)
    assert (tmp_path / "store" / "data").stat().st_mode & 0o020 == 0
    assert (tmp_path / "store" / "teachers").stat().st_mode & 0o020
    assert Store(tmp_path / "store").path(REF).stat().st_mode & 0o022 == 0


@needs_root
def test_a_folder_of_a_shared_store_that_is_closed_is_named_with_the_remedy(shared_store):
    for name in ("teachers", ".work"):
        as_user(ALICE, (shared_store.root / name).mkdir)
    folders = f"{shared_store.root}/teachers {shared_store.root}/.work"
    as_user(ALICE, shared_store.check)
    with pytest.raises(ArtifactError, match=f"no permission to write in .*{ALICE} can run: chmod g.ws {folders}$"):
        as_user(BOB, shared_store.check)
    checks = {
        user: as_user(user, lambda: [tuple(each) for each in doctor._store(shared_store.root, False)]) for user in (ALICE, BOB)
    }
    assert [level for level, *_ in checks[ALICE]] == ["ok"]
    ((level, told, _),) = checks[BOB]
    assert level == "fail" and told.endswith(folders)


@needs_root
def test_half_finished_work_of_somebody_else_is_named_with_the_remedy(shared_store):
    work = as_user(ALICE, lambda: shared_store.open_work(REF))
    with pytest.raises(ArtifactError, match=f"half-finished work of .*{ALICE}.*chmod -R g.w {work}$"):
        as_user(BOB, lambda: shared_store.open_work(REF))
    work.chmod(0o2775)
    assert as_user(BOB, lambda: shared_store.open_work(REF)) == work


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_what_cannot_be_read_is_neither_damaged_nor_used(tmp_path, monkeypatch, caplog, number):
    store, copy = Store(tmp_path / "store"), tmp_path / "disk" / Path(REF).name
    build(store)
    shutil.copytree(store.path(REF), copy)

    def read(path, real=artifacts.noted_sha256):
        if path.parent == broken:
            raise OSError(number, os.strerror(number))
        return real(path)

    monkeypatch.setattr(artifacts, "noted_sha256", read)
    broken = copy
    assert store.open_copy(REF, copy) == store.path(REF)
    assert "could not be read" in caplog.text
    broken = store.path(REF)
    with pytest.raises(UnreadableError, match=f"weights.bin: could not be read: {os.strerror(number)}"):
        store.verify(REF, artifacts.noted_sha256)
    with pytest.raises(ArtifactError, match="could not be read"):
        store.open(REF)


def test_a_manifest_that_cannot_be_read_is_not_damaged(tmp_path, monkeypatch):
    store = Store(tmp_path)
    build(store)

    def refuse(path, *args, **more):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UnreadableError, match="could not be read: Input/output error"):
        store.verify(REF)
    assert store.status(REF) == "unreadable"


def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path):
    store = Store(tmp_path)
    build(store)
    (store.path(REF) / "weights.bin").unlink()
    (store.path(REF) / "weights.bin").mkdir()
    assert store.verify(REF)
    store.manifest_path(REF).unlink()
    store.manifest_path(REF).mkdir()
    assert "damaged manifest" in str(store.verify(REF))


def test_only_folders_of_the_stages_with_an_id_hold_artifacts(tmp_path):
    store = Store(tmp_path)
    build(store)
    for name in ("code/app-0123456789", "teachers/notes", "teachers/.x-0123456789"):
        shutil.copytree(store.path(REF), tmp_path / name)
    assert store.refs() == [REF]


def test_a_manifest_names_the_commit_of_the_code_that_made_it():
    root = Path(__file__).parents[3]
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert Clock().provenance(device="cpu", world_size=1)["spikedistill"]["commit"] == commit or not (root / ".git").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "[" * 50_000, '{"spec": {}, "files": [], "digest": "", "upstream": {}}']
    + [f'{{"spec": {{}}, "files": {{"a": {entry}}}, "digest": "", "upstream": {{}}}}' for entry in ("1", "{}", '{"sha256": 1}')]
    + [
        '{"spec": {}, "files": {}, "digest": "", "upstream": {"data/x": 1}}',
        '{"spec": 1, "files": {}, "digest": "", "upstream": {}}',
    ],
    ids=lambda content: content[:60],
)
def test_a_damaged_manifest_is_named(tmp_path, content):
    store = Store(tmp_path)
    build(store)
    store.manifest_path(REF).write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json: (damaged manifest|not a manifest)"):
        store.manifest(REF)
    assert store.status(REF) == "unreadable"
    assert "manifest.json" in str(store.verify(REF))
