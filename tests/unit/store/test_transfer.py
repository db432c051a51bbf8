import json
import os
import shutil
import stat
import sys

import pytest

from slurm_lab.requirements import require
from spikedistill.errors import ArtifactError
from spikedistill.store import transfer
from spikedistill.store.artifacts import MANIFEST, MANIFEST_BACKUP, Store
from spikedistill.store.lease import Lease, lease_path
from spikedistill.store.transfer import Folder, Remote, open_place, pull, push

STUDENT = "students/digits-net-kd-seed0-cccccccccc"
TEACHER = "teachers/digits-net-seed0-bbbbbbbbbb"
DATA = "data/digits-aaaaaaaaaa"
EVALUATION = "evaluations/student-digits-net-kd-seed0-dddddddddd"

FAKE_SSH = """#!{python}
# Stands in for ssh: the remote command goes to a shell of this machine, in the "home" folder of the other one, as sshd does it.
import os, sys
arguments = sys.argv[1:]
while arguments and arguments[0].startswith("-"):
    option = arguments.pop(0)
    if option == "-l":
        arguments.pop(0)
host = arguments.pop(0)
if arguments and arguments[0] == "--":
    arguments.pop(0)
with open({log!r}, "a") as log:
    log.write(host + ": " + " ".join(arguments) + "\\n")
os.chdir({home!r})
os.execv("/bin/sh", ["sh", "-c", " ".join(arguments)])
"""


@pytest.fixture
def here(tmp_path):
    return Store(tmp_path / "here")


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """The home folder of another machine, which ssh reaches; `ssh.log` beside it has the commands that a shell there read."""
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(FAKE_SSH.format(python=sys.executable, log=str(tmp_path / "ssh.log"), home=str(home)))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("RSYNC_RSH", raising=False)
    return home


needs_rsync = pytest.mark.usefixtures("rsync")


@pytest.fixture
def rsync():
    """Skip, or fail in CI, where there is no rsync."""
    require("rsync", ["rsync"], "on Debian: apt-get install rsync")


def visible(store):
    return sorted(str(p.relative_to(store.root)) for p in store.root.glob("*/*") if p.relative_to(store.root).parts[0] != ".work")


def test_pulling_a_student_brings_its_teacher_and_data_once(family, here):
    lines = list(pull(Folder(family), here, ["digits-net-kd"]))
    assert [line.split()[:2] for line in lines] == [["copied", DATA], ["copied", TEACHER], ["copied", STUDENT]]
    for ref in here.refs():
        assert here.verify(ref) is None
        assert here.manifest(ref) == family.manifest(ref)
        assert (here.path(ref) / MANIFEST_BACKUP).stat().st_ino == here.manifest_path(ref).stat().st_ino
    assert here.is_current(STUDENT, [DATA, TEACHER])
    assert list((here.root / ".work").iterdir()) == []
    before = {p: p.stat().st_mtime_ns for p in here.root.rglob("*")}
    again = list(pull(Folder(family), here, [STUDENT, TEACHER]))
    assert [line.split()[:3] for line in again] == [["there", "already", each] for each in (DATA, TEACHER, STUDENT)]
    assert {p: p.stat().st_mtime_ns for p in here.root.rglob("*")} == before


def test_what_is_shared_by_two_is_copied_once(family, here, monkeypatch):
    fetched = []
    monkeypatch.setattr(transfer, "_copy_file", lambda a, b, real=transfer._copy_file: (fetched.append(a), real(a, b)))
    list(pull(Folder(family), here, [STUDENT, EVALUATION, TEACHER]))
    assert len(fetched) == len(set(fetched)) == 4


def test_pushing_to_a_folder(family, tmp_path):
    (tmp_path / "group").mkdir()
    lines = list(push(open_place(str(tmp_path / "group")), family, [TEACHER]))
    assert [line.split()[:2] for line in lines] == [["copied", DATA], ["copied", TEACHER]]
    assert Store(tmp_path / "group").verify(TEACHER) is None


def test_an_interrupted_pull_leaves_nothing_visible_and_the_next_one_goes_on(family, here, monkeypatch):
    def interrupted(source, target, real=transfer._copy_file):
        if "students" in source.parts:
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "_copy_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(pull(Folder(family), here, [STUDENT]))
    assert here.refs() == [DATA, TEACHER]
    assert visible(here) == [DATA, TEACHER]
    list(pull(Folder(family), here, [STUDENT]))
    assert here.verify(STUDENT) is None
    assert list((here.root / ".work").iterdir()) == []


def test_a_pull_goes_on_with_the_files_that_are_there(family, here, monkeypatch):
    folder = here.work(STUDENT) / "transfer"
    folder.mkdir(parents=True)
    shutil.copy(family.path(STUDENT) / "weights.bin", folder)
    (folder / "of an earlier try").write_bytes(b"x")
    (folder / "manifest.json").write_text("{}")
    fetched = []
    monkeypatch.setattr(transfer, "_copy_file", lambda a, b, real=transfer._copy_file: (fetched.append(a), real(a, b)))
    list(pull(Folder(family), here, [STUDENT]))
    assert family.path(STUDENT) / "weights.bin" not in fetched
    assert here.verify(STUDENT) is None


@pytest.mark.parametrize("damage", ["flipped", "short", "missing", "link", "pipe"])
def test_a_damaged_source_is_refused_and_named(family, here, damage, tmp_path):
    file = family.path(TEACHER) / "weights.bin"
    content = file.read_bytes()
    file.unlink()
    if damage == "flipped":
        file.write_bytes(content.replace(b"t", b"T", 1))
    elif damage == "short":
        file.write_bytes(content[:5])
    elif damage == "link":
        (tmp_path / "secret").write_bytes(content)
        file.symlink_to(tmp_path / "secret")
    elif damage == "pipe":
        os.mkfifo(file)
    with pytest.raises(ArtifactError, match=r"teachers/digits-net-seed0-bbbbbbbbbb.*weights\.bin|weights\.bin: not copied"):
        list(pull(Folder(family), here, [STUDENT]))
    assert here.refs() == [DATA]
    with pytest.raises(ArtifactError):
        list(pull(Folder(family), here, [STUDENT]))


def test_a_manifest_that_names_files_elsewhere_is_refused(family, here):
    for name in ("../../../escape", "/tmp/escape", ".manifest.json", "manifest.json", "a\nb", ""):
        manifest = family.manifest(DATA)
        manifest["files"] = {name: {"sha256": "0" * 64, "bytes": 1}}
        family.manifest_path(DATA).write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError, match="not as spikedistill makes them"):
            list(pull(Folder(family), here, [DATA]))
    assert not here.root.exists()


def test_a_manifest_with_an_upstream_elsewhere_is_refused(family, here):
    manifest = family.manifest(TEACHER)
    manifest["upstream"] = {"../../etc": "0"}
    family.manifest_path(TEACHER).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="its name is not as spikedistill"):
        list(pull(Folder(family), here, [TEACHER]))


def test_manifests_that_name_each_other_as_upstream_are_refused(family, here):
    for ref, upstream in ((DATA, TEACHER), (TEACHER, DATA)):
        path = family.path(ref) / MANIFEST
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"upstream": {upstream: family.digest(upstream)}}))
    with pytest.raises(ArtifactError, match=f"{TEACHER} in .* was made from itself, by its manifest, which is damaged"):
        list(pull(Folder(family), here, [TEACHER]))
    assert here.refs() == []


def test_an_artifact_is_never_replaced_by_another_of_its_name(family, here, put):
    put(here, DATA, content="another run")
    with pytest.raises(ArtifactError, match=rf"{DATA}.*never replaced"):
        list(pull(Folder(family), here, [STUDENT]))
    assert here.refs() == [DATA]
    assert (here.path(DATA) / "weights.bin").read_bytes() == b"another run"


def test_what_was_made_from_another_upstream_than_the_one_there_is_refused(family, here, put):
    shutil.rmtree(family.path(TEACHER))
    with pytest.raises(ArtifactError, match=f"made from {TEACHER}, which is in neither store"):
        list(pull(Folder(family), here, [STUDENT]))
    put(family, TEACHER, content="another run")
    with pytest.raises(ArtifactError, match=f"made from another {TEACHER}"):
        list(pull(Folder(family), here, [STUDENT]))


def test_an_upstream_that_is_here_already_need_not_be_there(family, here):
    list(pull(Folder(family), here, [TEACHER]))
    shutil.rmtree(family.path(TEACHER))
    list(pull(Folder(family), here, [STUDENT]))
    assert here.is_current(STUDENT, [DATA, TEACHER])


def test_a_pull_waits_for_the_job_that_makes_the_artifact_and_its_upstream_is_recorded(family, here, monkeypatch):
    monkeypatch.setattr("spikedistill.store.lease.POLL_S", 0.05)
    list(pull(Folder(family), here, [TEACHER]))
    lease = Lease(lease_path(here.work(STUDENT)), "a job")
    assert lease.acquire()

    def made_meanwhile(seconds):
        if STUDENT not in here.refs():
            list(pull(Folder(family), Store(here.root.parent / "third"), [STUDENT]))
            shutil.copytree(here.root.parent / "third" / STUDENT, here.path(STUDENT))

    monkeypatch.setattr("spikedistill.store.lease.time.sleep", made_meanwhile)
    *_, last = pull(Folder(family), here, [STUDENT])
    assert last == f"made here meanwhile  {STUDENT}"
    lease.release()


def test_what_is_pruned_here_while_others_are_copied_is_copied_too(family, here):
    list(pull(Folder(family), here, [TEACHER]))
    lines = []
    for line in pull(Folder(family), here, [STUDENT]):
        lines.append(line)
        if line == f"there already  {TEACHER}":
            shutil.rmtree(here.path(TEACHER))
    assert [line.rpartition("  ")[0] for line in lines[-2:]] == [
        f"copied  {STUDENT}",
        f"copied, as it was removed meanwhile  {TEACHER}",
    ]
    assert here.verify(TEACHER) is None


def test_modes_follow_the_umask_and_the_group_can_read(family, here):
    (family.path(DATA) / "weights.bin").chmod(0o400)
    old = os.umask(0o077)
    try:
        list(pull(Folder(family), here, [DATA]))
    finally:
        os.umask(old)
    assert stat.S_IMODE((here.path(DATA) / "weights.bin").stat().st_mode) == 0o640
    assert stat.S_IMODE(here.path(DATA).stat().st_mode) == 0o750


def test_too_little_space_is_told_before_anything_is_copied(family, here, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: usage._replace(free=10))
    with pytest.raises(ArtifactError, match=r"B are needed, 10 B are free"):
        list(pull(Folder(family), here, [STUDENT]))
    assert here.refs() == []


def test_places():
    assert open_place("me@node-1.site.org:/scratch/store/") == Remote("me@node-1.site.org", "/scratch/store")
    assert open_place("host:~/store") == Remote("host", "store")
    assert open_place("host:") == Remote("host", ".")
    assert open_place("host:/") == Remote("host", "/")


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=x:/a", "a b:/c", "host::module", "rsync://host/module", "$(x):/a", "host:/a\nb"]
)
def test_what_is_no_place_is_told(text):
    with pytest.raises(ArtifactError, match="expected a folder, or host:path"):
        open_place(text)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="no such folder"):
        open_place(str(tmp_path / "nothing"))


def test_an_absent_rsync_is_told(here, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArtifactError, match=r"rsync is not on this machine.*apt install rsync"):
        list(pull(Remote("host", "store"), here, ["x"]))


@needs_rsync
@pytest.mark.parametrize("folder", ["store", "my store; touch gone 'x' $(touch gone)"])
def test_pull_over_ssh(family, here, other_machine, folder):
    shutil.move(family.root, other_machine / folder)
    lines = list(pull(open_place(f"me@host:{folder}"), here, ["digits-net-kd"]))
    assert [line.split()[1] for line in lines] == [DATA, TEACHER, STUDENT]
    assert all(here.verify(ref) is None for ref in here.refs())
    assert next(pull(open_place(f"me@host:{folder}"), here, [STUDENT])).startswith("there already")
    assert sorted(p.name for p in other_machine.iterdir()) == [folder]


@needs_rsync
def test_damage_over_ssh_is_refused_and_named(family, here, other_machine):
    (family.path(TEACHER) / "weights.bin").write_bytes(b"teachers/digits-net-seed0-BBBBBBBBBB")
    shutil.move(family.root, other_machine / "store")
    with pytest.raises(ArtifactError, match=r"damaged artifact in host:store.*teachers/digits-net.*weights\.bin: sha256"):
        list(pull(open_place("host:store"), here, [STUDENT]))
    assert here.refs() == [DATA]


@needs_rsync
@pytest.mark.parametrize("folder", ["store", "my store; touch gone 'x' $(touch gone)"])
def test_push_over_ssh(family, other_machine, tmp_path, folder):
    (other_machine / folder).mkdir()
    lines = list(push(open_place(f"host:{folder}"), family, [STUDENT]))
    assert [line.split()[:2] for line in lines] == [["copied", each] for each in (DATA, TEACHER, STUDENT)]
    there = Store(other_machine / folder)
    assert there.refs() == [DATA, STUDENT, TEACHER]
    assert all(there.verify(ref) is None for ref in there.refs())
    assert list(there.root.glob("*/.*")) == []
    assert sorted(p.name for p in other_machine.iterdir()) == [folder]
    again = list(push(open_place(f"host:{folder}"), family, [EVALUATION]))
    assert [line.split()[0] for line in again] == ["there", "there", "there", "copied"]


@needs_rsync
@pytest.mark.parametrize(("mode", "bit"), [(0o2755, 0), (0o2775, stat.S_IWGRP)])
def test_the_folders_that_a_push_makes_are_for_the_group_if_the_store_there_is(family, other_machine, mode, bit):
    (other_machine / "store").mkdir()
    (other_machine / "store").chmod(mode)
    list(push(open_place("host:store"), family, [DATA]))
    assert (other_machine / "store" / "data").stat().st_mode & stat.S_IWGRP == bit


@needs_rsync
def test_a_push_that_arrives_damaged_does_not_become_visible(family, other_machine, tmp_path, monkeypatch):
    (other_machine / "store").mkdir()
    programs = tmp_path / "damaging"
    programs.mkdir()
    rsync = programs / "rsync"
    rsync.write_text(
        f'#!/bin/sh\n{shutil.which("rsync")} "$@"; s=$?\nfor f in {other_machine}/store/*/.*/weights.bin; do\n'
        '  test -f "$f" && echo x >> "$f"\ndone\nexit $s\n'
    )
    rsync.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(ArtifactError, match=r"host:store: failed with status 1.*weights\.bin"):
        list(push(open_place("host:store"), family, [DATA]))
    assert Store(other_machine / "store").refs() == []


@needs_rsync
def test_a_damaged_artifact_is_not_pushed(family, other_machine):
    (other_machine / "store").mkdir()
    (family.path(TEACHER) / "weights.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=f"damaged artifact, not copied: {TEACHER}"):
        list(push(open_place("host:store"), family, [STUDENT]))
    assert Store(other_machine / "store").refs() == [DATA]


@needs_rsync
def test_a_store_that_is_not_there_is_told_with_what_rsync_says(here, other_machine):
    with pytest.raises(ArtifactError, match=r"rsync from host:nothing/.*No such file"):
        list(pull(open_place("host:nothing"), here, ["x"]))
