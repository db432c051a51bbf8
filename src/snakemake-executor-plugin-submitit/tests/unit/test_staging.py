"""Copies of inputs on a node's own disk."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from slurm_lab.main_process import lines, write_snakefile
from slurm_lab.running import snakemake
from snakemake_executor_plugin_submitit.job import staged_inputs, staging
from snakemake_executor_plugin_submitit.job.staging import STAGED, ChangedError, Copies, NoRoomError, stage, stage_on_this_node
from snakemake_executor_plugin_submitit.request.stage_in import stage_in_arguments

HOLD = """
import sys
from pathlib import Path
from snakemake_executor_plugin_submitit.job.staging import Copies
print(Copies(Path(sys.argv[1])).fetch(Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "shared" / "data"
    (folder / "deeper").mkdir(parents=True)
    (folder / "frames.npy").write_bytes(os.urandom(100_000))
    (folder / "deeper" / "index.json").write_text("[]")
    return folder


def fetched(base, original):
    """Fetch a copy, and release it."""
    copies = Copies(base)
    try:
        return copies.fetch(original)
    finally:
        copies.close()


@pytest.fixture
def disk(monkeypatch):
    """A disk of 1,000,000 bytes, with as many free as `free` says."""
    state = SimpleNamespace(free=900_000)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(total=1_000_000, free=state.free))
    return state


def entries(base):
    return sorted(path.name for path in base.glob("*.json"))


def test_a_folder_is_copied_once_whole_and_for_its_owner_only(base, data, monkeypatch):
    first = fetched(base, data)
    assert first.is_relative_to(base) and first.name == "data"
    for name in ("frames.npy", "deeper/index.json"):
        assert (first / name).read_bytes() == (data / name).read_bytes()
        assert (first / name).stat().st_mode & 0o077 == 0
    monkeypatch.setattr(staging, "_copy", None)  # nothing is copied any more
    assert fetched(base, data) == first
    about = json.loads(next(base.glob("*.json")).read_text())
    assert about["bytes"] == 100_002 and about["original"] == str(data)


def test_a_file_that_was_changed_is_copied_anew(base, data):
    source = data / "frames.npy"
    old = fetched(base, source)
    source.write_bytes(b"new")
    new = fetched(base, source)
    assert (old != new, new.read_bytes()) == (True, b"new")


def test_a_copy_that_was_cut_off_is_made_again(base, data):
    copy = fetched(base, data)
    (copy / "frames.npy").write_bytes(b"")
    assert (fetched(base, data) / "frames.npy").read_bytes() == (data / "frames.npy").read_bytes()


def test_an_original_that_changes_meanwhile_leaves_nothing(base, data, monkeypatch):
    copy = staging._copy

    def slow(source, target):
        found = copy(source, target)
        (data / "frames.npy").write_bytes(b"changed")
        return found

    monkeypatch.setattr(staging, "_copy", slow)
    with pytest.raises(ChangedError):
        fetched(base, data)
    assert entries(base) == [] and [path for path in base.iterdir() if path.is_dir()] == []


def test_a_disk_that_keeps_other_bytes_is_noticed(base, data, monkeypatch):
    monkeypatch.setattr(staging, "_checksum", lambda path: 1)
    with pytest.raises(OSError, match="not what was written"):
        fetched(base, data)
    assert [path for path in base.iterdir() if path.is_dir()] == []


def test_without_room_the_copies_that_are_unused_longest_go_first(base, tmp_path, disk):
    files = [tmp_path / name for name in ("a", "b", "c")]
    for number, file in enumerate(files):
        file.write_bytes(bytes(100))
        fetched(base, file)
        about = next(path for path in base.glob("*.json") if json.loads(path.read_text())["original"] == str(file))
        os.utime(about, (time.time() - 100 + number,) * 2)
    removed = staging.Copies._remove

    def freeing(self, key):
        disk.free += 100 * (self.base / f"{key}.json").exists()
        removed(self, key)

    disk.free, staging.Copies._remove = 100_000, freeing
    try:
        new = tmp_path / "new"
        new.write_bytes(bytes(150))
        fetched(base, new)
    finally:
        staging.Copies._remove = removed
    left = {json.loads(path.read_text())["original"] for path in base.glob("*.json")}
    assert left == {str(files[2]), str(new)}


def test_a_copy_in_use_stays_and_a_full_disk_is_told(base, data, tmp_path, disk):
    command = [sys.executable, "-c", HOLD, str(base), str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout.readline().startswith(f"stage_in: {data}: ")
        copy = Path(user.stdout.readline().strip())
        disk.free = 0
        other = tmp_path / "other"
        other.write_bytes(bytes(1000))
        with pytest.raises(NoRoomError, match="too little space"):
            fetched(base, other)
        assert (copy / "frames.npy").exists()
        user.stdin.close()
        user.wait()
    with pytest.raises(NoRoomError):
        fetched(base, other)
    assert not copy.exists(), "nobody uses it any more"


def test_copies_have_no_more_than_the_limit(base, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        path.write_bytes(bytes(1000))
    user = Copies(base, most_gb=1)
    copy = user.fetch(old)
    (about,) = base.glob("*.json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"bytes": 10**9 - 999}))  # as if it were larger
    with pytest.raises(NoRoomError, match=r"copies may have 1 GB there \(--submitit-stage-in-gb\)"):
        Copies(base, most_gb=1).fetch(new)
    assert copy.exists()
    user.close()
    Copies(base, most_gb=1).fetch(new)
    assert not copy.exists() and len(list(base.glob("*.json"))) == 1


def test_a_copy_of_which_nobody_wrote_what_it_is_makes_room(base, data, tmp_path, disk):
    copy = fetched(base, data)
    next(base.glob("*.json")).unlink()
    other = tmp_path / "other"
    other.write_bytes(b"1")
    fetched(base, other)
    assert not copy.exists()


def test_what_a_killed_job_has_left_is_removed(base, data):
    fetched(base, data)
    (about,) = base.glob("*.json")
    about.rename(base / "aside")  # it was killed before it had written that
    partial = base / f".{about.stem}.partial"
    partial.mkdir()
    (partial / "half").write_bytes(b"half")
    copy = fetched(base, data)
    assert (copy / "frames.npy").read_bytes() == (data / "frames.npy").read_bytes() and not partial.exists()


def test_a_folder_that_others_may_write_to_is_not_used(base, data):
    base.chmod(0o777)
    with pytest.raises(PermissionError):
        Copies(base).link("job", "data-0", data)


def test_without_a_copy_the_link_leads_to_the_original_and_says_why(base, data, disk):
    disk.free = 0
    link, why = Copies(base).link("job", "data-0", data)
    assert link.resolve() == data and "too little space" in why


def test_other_nodes_have_the_same_paths(base, data, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    ((name, link, why),) = stage({"data-0": data}, "$SCRATCH")
    assert (name, why) == ("data-0", "") and link.is_relative_to(tmp_path / "scratch")
    shutil.rmtree(tmp_path / "scratch")  # as it is on another node
    assert list(stage_on_this_node({STAGED: os.environ[STAGED]})) == []
    assert (link / "frames.npy").read_bytes() == (data / "frames.npy").read_bytes()
    assert list(stage_on_this_node({})) == []


def test_folders_behind_links_and_empty_ones_are_copied(base, data, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "part").write_text("part")
    for name in ("one", "two"):
        (data / name).symlink_to(elsewhere)
    (data / "deeper" / "empty").mkdir()
    (data / "nothing").symlink_to("missing")
    copy = fetched(base, data)
    found = sorted(str(path.relative_to(copy)) for path in copy.rglob("*"))
    assert found == ["deeper", "deeper/empty", "deeper/index.json", "frames.npy", "one", "one/part", "two", "two/part"]
    assert not any(path.is_symlink() for path in copy.rglob("*")) and (copy / "one" / "part").read_text() == "part"
    (elsewhere / "part").write_text("changed")
    assert (fetched(base, data) / "two" / "part").read_text() == "changed"


def test_an_empty_folder_is_copied(base, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert list(fetched(base, empty).iterdir()) == []


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_folder_with_a_link_to_where_it_is_is_read_from_there(base, data, target):
    (data / "deeper" / "around").symlink_to(target)
    link, why = Copies(base).link("job", "data-0", data)
    assert (
        link.resolve() == data
        and why.startswith(f"{data}/deeper/around")
        and why.endswith("leads back to a folder that it is in")
    )


def test_a_folder_with_what_cannot_be_copied_is_read_from_where_it_is(base, data):
    os.mkfifo(data / "pipe")
    link, why = Copies(base).link("job", "data-0", data)
    assert (link.resolve(), why) == (data, f"{data}/pipe is neither a file nor a folder")


def test_programs_stay_programs_for_their_owner(base, data):
    program = data / "deeper" / "run.sh"
    program.write_text("#!/bin/sh\necho ran\n")
    assert not os.access(fetched(base, data) / "deeper" / "run.sh", os.X_OK)
    program.chmod(0o755)  # which leaves its mtime as it is
    copy = fetched(base, data)
    assert subprocess.run([copy / "deeper" / "run.sh"], capture_output=True, text=True, check=True).stdout == "ran\n"
    modes = [(copy / name).stat().st_mode & 0o777 for name in ("deeper/run.sh", "frames.npy")]
    assert modes == [0o700, 0o600]


def test_a_relative_path_is_copied_under_its_name(base, data, monkeypatch):
    monkeypatch.chdir(data / "deeper")
    for path in (Path("index.json"), Path("../deeper/index.json")):
        link, why = Copies(base).link("job", f"{len(path.parts)}", path)
        assert (link.name, link.read_text(), why) == ("index.json", "[]", "") and link.resolve().is_relative_to(base)
    link, why = Copies(base).link("job", "folder", Path("../../data"))
    assert (link.name, (link / "deeper/index.json").read_text(), why) == ("data", "[]", "")
    link, _ = Copies(base).link("job", "around", Path(".."))
    assert link.name == "data" and (link / "deeper/index.json").read_text() == "[]"


@pytest.mark.parametrize("path", ["index.json", "./index.json", "../frames.npy"])
def test_the_working_directory_and_what_it_is_in_are_not_copied(base, data, path, monkeypatch, capsys):
    monkeypatch.chdir(data / "deeper")
    read = staged_inputs._staged(SimpleNamespace(items=lambda: [("data", path)]), ["data/"], str(base), None)
    assert Path(read[path]).samefile(path)
    assert (
        f"stage_in: {Path(path).parent} is read from where it is: the working directory is not copied" in capsys.readouterr().out
    )
    assert [path for path in base.rglob("*") if path.is_file()] == []
    assert list(stage_on_this_node({STAGED: os.environ[STAGED]})) == []


def test_an_input_in_the_working_directory_is_copied(base, data, monkeypatch):
    monkeypatch.chdir(data)
    inputs = SimpleNamespace(items=lambda: [("data", "frames.npy"), ("index", "deeper/index.json")])
    read = staged_inputs._staged(inputs, ["data", "index/"], str(base), None)
    for path, copy in read.items():
        assert Path(copy).resolve().is_relative_to(base) and Path(copy).read_bytes() == Path(path).read_bytes()


def test_old_links_go_once_no_job_holds_them(base, data, tmp_path):
    running = Copies(base)
    links = base / "links" / "job"
    for name in ("data-0", "data-1"):
        running.link("job", name, data)
    killed = base / "links" / "killed"
    (killed / "data-0").mkdir(parents=True)
    others = [tmp_path / name for name in ("a", "b")]
    for other in others:
        other.write_text(other.name)
    for each in (links, killed):
        os.utime(each, (time.time() - 2 * staging.UNUSED_S,) * 2)
    fetched(base, others[0])
    assert links.is_dir() and (links / "data-0" / "data" / "frames.npy").exists() and not killed.exists()
    running.close()
    fetched(base, others[1])
    assert not links.exists()


@pytest.mark.parametrize("value", ["dat", "data,other", 5, "data//"])
def test_a_name_that_is_no_input_is_refused(value):
    with pytest.raises(WorkflowError, match=r"resource stage_in=.*: expected names of inputs .* its inputs: data, model"):
        stage_in_arguments({"stage_in": value}, {"data": 1, "model": 2}, None, None)


def test_arguments_name_inputs_and_folder():
    assert stage_in_arguments({}, {"data": 1}, "$X", 5) == []
    found = stage_in_arguments({"stage_in": "data/, model"}, {"data": 1, "model": 2}, None, None)
    assert found == ["--stage-in", "data/,model"]
    found = stage_in_arguments({"stage_in": "data"}, {"data": 1}, "$X y", 20)
    assert found[2:] == ["--stage-in-folder", "$X y", "--stage-in-gb", "20"]


RULES = """
    rule all:
        input: expand("{n}.txt", n=range(4))
    rule reads:
        input: data="shared/data/frames.npy", many=["a.in", "b.in"]
        output: "{n}.txt"
        log: "{n}.log"
        resources: mem_mb=100, stage_in="data/,many", %s
        shell: "spmd sh -c 'realpath {input.data} {input.many} > {wildcards.n}.paths'; cat {input} > {output}"
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pool=0", "pool='2x2'", "tasks_per_node=2"])
def test_a_rule_reads_copies_without_knowing(tmp_path, base, data, how):
    for name in ("a.in", "b.in"):
        (tmp_path / name).write_text(name)
    write_snakefile(tmp_path, RULES % how)
    done = snakemake(tmp_path, "--submitit-stage-in-folder", str(base), cluster="local")
    assert done.returncode == 0, done.stdout
    for n in range(4):
        assert (tmp_path / f"{n}.txt").read_bytes() == (data / "frames.npy").read_bytes() + b"a.inb.in"
        paths = [Path(path) for path in lines(tmp_path / f"{n}.paths")]
        assert all(path.is_relative_to(base) for path in paths) and [path.name for path in paths[-2:]] == ["a.in", "b.in"]
    ((scratch),) = base.iterdir()
    assert len(entries(scratch)) == 3 and list((scratch / "links").iterdir()) == []


@pytest.mark.slow
def test_a_rule_reads_the_original_where_there_is_no_room(tmp_path, data):
    (tmp_path / "a.in").write_text("a")
    (tmp_path / "b.in").write_text("b")
    (tmp_path / "file").write_text("in the way")
    write_snakefile(tmp_path, RULES % "pool=0")
    done = snakemake(tmp_path, "0.txt", "--submitit-stage-in-folder", str(tmp_path / "file"), cluster="local")
    assert done.returncode == 0, done.stdout
    log = next((tmp_path / ".snakemake/submitit/reads.0/latest").glob("*_log.out")).read_text()
    assert f"stage_in: {data} is read from where it is: {os.strerror(errno.ENOTDIR)}" in log.replace("shared/data", str(data))
