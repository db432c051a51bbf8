import os
import time
import uuid

import pytest

from snakemake_executor_plugin_submitit.jsonfile import write_file
from snakemake_executor_plugin_submitit.submission.submit import new_job_folder
from snakemake_executor_plugin_submitit.tracking.retention import DAY_S, remove_old
from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder, done_marker

FIRST, SECOND, THIRD, LATEST = (f"20260101T00000{number}" for number in range(4))


def age(path, days):
    """Make a file, or a folder with all that is in it, some days old."""
    for each in (*path.rglob("*"), path):
        os.utime(each, (time.time() - days * DAY_S,) * 2, follow_symlinks=False)


def attempt(job, name, age_days=40):
    job_dir = job / name
    job_dir.mkdir(mode=0o700, parents=True)
    (job_dir / "1_0_log.out").touch()
    age(job_dir, age_days)
    return job_dir


def users_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not the plugin's")
    return path


def test_old_attempts_go_and_the_latest_and_those_in_use_stay(tmp_path):
    job = tmp_path / "rule.a"
    made = [(FIRST, 40), (f"{FIRST}-1", 40), (SECOND, 40), (THIRD, 5), (LATEST, 40)]
    old, twin, kept, recent, latest = (attempt(job, name, days) for name, days in made)
    (job / "latest").symlink_to(LATEST)
    marks = [tmp_path / "ended" / f"rule.a+{name}" for name in (FIRST, SECOND, THIRD)]
    (tmp_path / "ended").mkdir()
    for mark, age_days in zip(marks, (40, 40, 5), strict=True):
        mark.touch()
        age(mark, age_days)
    remove_old(tmp_path, 0, set())
    assert old.exists()
    remove_old(tmp_path, 30, {kept})
    assert [mark.exists() for mark in marks] == [False, True, True]
    assert not old.exists() and not twin.exists()
    assert kept.exists()
    assert recent.exists()
    assert latest.exists()


def test_what_the_plugin_itself_has_named_goes(tmp_path):
    attempts = [new_job_folder(tmp_path, "train.a=1,b-2") for _ in range(3)]
    for job_dir in attempts:
        (job_dir / "settled").touch()
    markers = [tmp_path / "ended" / done_marker(job_dir) for job_dir in attempts]
    markers[0].parent.mkdir()
    for marker in markers:
        marker.touch()
    listings = [tmp_path / "inputs" / f"{uuid.uuid4().hex}.txt" for _ in range(5)]
    listings[0].parent.mkdir()
    for listing in listings:
        write_file(listing, "a\nb\n")
    pool = TicketFolder(tmp_path / "pools" / uuid.uuid4().hex[:12])
    pool.create()
    abolished = TicketFolder(tmp_path / "pools" / uuid.uuid4().hex[:12])
    abolished.create()
    abolished.abolish()
    age(tmp_path, 40)
    remove_old(tmp_path, 30, set())
    assert [job_dir.exists() for job_dir in attempts] == [False, False, True]
    assert not any(path.exists() for path in (*markers, *listings, pool.folder, abolished.folder))


def test_files_of_the_user_stay(tmp_path):
    names = [
        "inputs/samples.txt",
        "inputs/0123456789abcdef0123456789abcdef.txt",  # the MD5 sum of something
        f"inputs/{uuid.uuid4().hex}.txt",
        "checkpoints/epoch1/w.pt",
        "checkpoints/epoch2/w.pt",
        "pools/swimming/water.csv",
        "pools/0123456789ab/water.csv",
        "pools/queue/claims.csv",
        "ended/report.pdf",
        f"ended/run+{FIRST}",
        f"runs/{FIRST}/weights.pt",
        f"runs/{SECOND}/weights.pt",
        "copied/epoch1/w.pt",
        f"copied/latest/{FIRST}/w.pt",
    ]
    files = [users_file(tmp_path / name) for name in names]
    (tmp_path / "checkpoints/latest").symlink_to("epoch2")
    (tmp_path / "runs/latest").symlink_to(SECOND)
    empty = tmp_path / "ended" / "done"
    empty.touch()
    age(tmp_path, 40)
    remove_old(tmp_path, 30, set())
    assert [file.name for file in (*files, empty) if not file.exists()] == []


@pytest.mark.parametrize("name", ["x", "pools", "inputs", "ended"])
def test_nothing_behind_a_link_goes(tmp_path, name):
    folder, data = tmp_path / "submitit", tmp_path / "data"
    folder.mkdir()
    attempts = [attempt(data, stamp) for stamp in (FIRST, LATEST)]
    (data / "latest").symlink_to(LATEST)
    pool = TicketFolder(data / uuid.uuid4().hex[:12])
    pool.create()
    files = [data / f"{uuid.uuid4().hex}.txt", data / f"rule.a+{FIRST}"]
    for file in files:
        file.touch(0o600)
    age(data, 40)
    (folder / name).symlink_to(data)
    remove_old(folder, 30, set())
    assert all(path.exists() for path in (*attempts, pool.folder, *files))


def test_the_latest_attempt_and_those_in_use_stay_when_the_path_has_a_link(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / ".snakemake").symlink_to("scratch")
    folder = tmp_path / ".snakemake" / "submitit"
    job, arrays = folder / "rule.a", folder / "arrays"
    old, kept, latest = (attempt(job, name) for name in (FIRST, SECOND, LATEST))
    (job / "latest").symlink_to(LATEST)
    of_latest, unused, newest = (attempt(arrays, name) for name in (FIRST, SECOND, LATEST))
    (arrays / "latest").symlink_to(LATEST)
    (of_latest / "2_0_0_log.out").touch()
    (latest / "2_0_0_log.out").symlink_to(f"../../arrays/{FIRST}/2_0_0_log.out")
    age(folder, 40)
    remove_old(folder, 30, {kept})
    assert [path.exists() for path in (old, kept, latest)] == [False, True, True]
    assert [path.exists() for path in (of_latest, unused, newest)] == [True, False, True]
