import os
import time

from snakemake_executor_plugin_submitit.tracking.retention import DAY_S, remove_old


def attempt(job, name, age_days):
    job_dir = job / name
    job_dir.mkdir(parents=True)
    log = job_dir / "1_0_log.out"
    log.touch()
    for path in (log, job_dir):
        os.utime(path, (time.time() - age_days * DAY_S,) * 2)
    return job_dir


def test_old_attempts_go_and_the_latest_and_those_in_use_stay(tmp_path):
    job = tmp_path / "rule.a"
    old, kept, recent, latest = (attempt(job, name, age) for name, age in [("1", 40), ("2", 40), ("3", 5), ("4", 40)])
    (job / "latest").symlink_to("4")
    marks = [tmp_path / "ended" / f"rule.a+{number}" for number in (1, 2, 3)]
    (tmp_path / "ended").mkdir()
    for mark, age_days in zip(marks, (40, 40, 5), strict=True):
        mark.touch()
        os.utime(mark, (time.time() - age_days * DAY_S,) * 2)
    remove_old(tmp_path, 0, set())
    assert old.exists()
    remove_old(tmp_path, 30, {kept})
    assert [mark.exists() for mark in marks] == [False, True, True]
    assert not old.exists()
    assert kept.exists()
    assert recent.exists()
    assert latest.exists()
