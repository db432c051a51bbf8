import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from spikedistill.errors import ConfigError
from spikedistill.plan.identity import content_id
from spikedistill.plan.stages import STAGES
from spikedistill.store import housekeeping, inventory
from spikedistill.store.artifacts import KINDS, MANIFEST, is_artifact_name
from spikedistill.store.housekeeping import plan_prune, remove
from spikedistill.store.inventory import artifacts, format_size, half_finished, listing, parse_age, usage
from spikedistill.store.lease import Lease, lease_path
from spikedistill.store.provenance import record_start
from tests.unit.store.users import ALICE, BOB, as_user, needs_root

DAY_S = 86400.0
STUDENT = "students/digits-net-kd-seed0-cccccccccc"
TEACHER = "teachers/digits-net-seed0-bbbbbbbbbb"
DATA = "data/digits-aaaaaaaaaa"
EVALUATION = "evaluations/student-digits-net-kd-seed0-dddddddddd"


def refs(prune):
    return [entry.ref for entry in prune.artifacts]


def age(folder, days):
    long_ago = time.time() - days * DAY_S
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (long_ago, long_ago))


@pytest.fixture
def running():
    """Function that takes the lease of an artifact, as a job does that makes it."""
    held = []

    def running(store, ref, upstream=None):
        work = store.work(ref)
        lease = Lease(lease_path(work), "a job")
        assert lease.acquire()
        held.append(lease)
        if upstream is not None:
            record_start(work, upstream)
        return work

    yield running
    for lease in held:
        lease.release()


@pytest.fixture
def dead(tmp_path):
    """Function that leaves the lease of a process of this machine that was killed."""

    def dead(store, ref):
        program = (
            "import os, sys; from pathlib import Path; from spikedistill.store.lease import Lease, lease_path\n"
            "Lease(lease_path(Path(sys.argv[1])), 'killed').acquire(); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", program, store.work(ref)], check=False)
        return store.work(ref)

    return dead


def test_what_a_configuration_needs_stays_with_all_that_it_was_made_from(family, put):
    other = put(family, "students/digits-net-ce-seed0-eeeeeeeeee", [DATA], days_old=100)
    prune = plan_prune(family, {"a.yaml": {STUDENT}}, 30 * DAY_S)
    assert set(refs(prune)) == {EVALUATION, other}
    assert prune.kept == {
        DATA: "that a kept artifact was made from",
        STUDENT: "needed by a.yaml",
        TEACHER: "that a kept artifact was made from",
    }


def test_nothing_is_removed_by_planning_and_what_is_removed_goes_downstream_first(family):
    prune = plan_prune(family, {}, 0)
    assert refs(prune) == [EVALUATION, STUDENT, TEACHER, DATA]
    assert len(family.refs()) == 4
    assert remove(family, prune) == []
    assert family.refs() == []
    assert list(family.root.rglob("*.old")) == []
    assert list((family.root / ".work").iterdir()) == []


def test_what_is_young_stays(family, put):
    put(family, "students/digits-net-ce-seed0-eeeeeeeeee", [DATA], days_old=3)
    prune = plan_prune(family, {}, 7 * DAY_S)
    assert refs(prune) == [EVALUATION, STUDENT, TEACHER]
    assert "younger than 7 d" in prune.kept["students/digits-net-ce-seed0-eeeeeeeeee"]


def test_what_was_made_long_ago_and_copied_here_lately_is_young(family):
    os.utime(family.path(EVALUATION))
    assert refs(plan_prune(family, {}, 7 * DAY_S)) == []


def test_what_a_running_job_makes_or_reads_stays(family, running):
    running(family, "students/new-0000000000", [DATA, TEACHER])
    prune = plan_prune(family, {}, 0)
    assert refs(prune) == [EVALUATION, STUDENT]
    assert prune.kept[TEACHER] == "made or read by a running job"
    assert prune.works == ()


def test_a_job_of_an_earlier_version_does_not_tell_what_it_reads_so_that_every_artifact_stays(family, running):
    work = running(family, "students/new-0000000000")
    (work / "starts.jsonl").write_text('{"started": "2026-01-01", "host": "node1"}\n')
    prune = plan_prune(family, {}, 0)
    assert refs(prune) == []
    assert "job of an earlier version" in prune.notes[0]


def test_a_job_that_starts_between_planning_and_removal_is_safe(family, running):
    prune = plan_prune(family, {}, 0)
    running(family, STUDENT, [DATA, TEACHER])
    assert sorted(remove(family, prune)) == [
        f"{DATA}: stays, a running job reads it by now",
        f"{STUDENT}: stays, a running job holds its lease by now",
        f"{TEACHER}: stays, a running job reads it by now",
    ]
    assert family.refs() == [DATA, STUDENT, TEACHER]


def test_what_a_job_starts_to_read_while_it_is_hidden_is_put_back_with_all_that_it_was_made_from(family, running, monkeypatch):
    def hide(folder, real=housekeeping._hide):
        if folder == family.path(TEACHER):
            running(family, "students/new-0000000000", [TEACHER])
        return real(folder)

    monkeypatch.setattr(housekeeping, "_hide", hide)
    problems = remove(family, plan_prune(family, {}, 0))
    assert sorted(problems) == [
        f"{DATA}: stays, something that stays was made from it",
        f"{TEACHER}: stays, a running job reads it by now",
    ]
    assert family.refs() == [DATA, TEACHER]
    assert family.verify(TEACHER) is family.verify(DATA) is None


def test_what_a_job_of_an_earlier_version_may_read_since_the_plan_stays(family, running):
    prune = plan_prune(family, {}, 0)
    (running(family, "students/new-0000000000") / "starts.jsonl").write_text('{"started": "2026-01-01", "host": "node1"}\n')
    assert len(remove(family, prune)) == 4
    assert len(family.refs()) == 4


def test_what_an_artifact_was_made_from_that_came_after_the_plan_stays(family, put):
    prune = plan_prune(family, {}, 0)
    new = put(family, "students/new-0000000000", [TEACHER])
    assert sorted(remove(family, prune)) == [
        f"{DATA}: stays, something that stays was made from it",
        f"{TEACHER}: stays, {new} was made from it meanwhile",
    ]
    assert family.refs() == [DATA, new, TEACHER]


def test_if_a_removal_ends_early_all_that_was_hidden_is_put_back(family, monkeypatch):
    prune = plan_prune(family, {}, 0)
    looks = iter([housekeeping.half_finished, None])
    monkeypatch.setattr(housekeeping, "half_finished", lambda store: next(looks)(store))
    with pytest.raises(TypeError):
        remove(family, prune)
    assert len(family.refs()) == 4


def test_an_artifact_that_was_built_anew_after_planning_stays(family, put):
    prune = plan_prune(family, {}, 0)
    family.set_aside(EVALUATION)
    put(family, EVALUATION, content="another")
    remove(family, prune)
    assert family.refs() == [EVALUATION]


def test_half_finished_work_goes_by_its_age_when_nobody_holds_its_lease(store, running, dead):
    for days, name in ((1, "young"), (40, "old"), (40, "killed"), (40, "needed")):
        ref = f"students/{name}-0123456789"
        work = dead(store, ref) if name == "killed" else store.work(ref)
        (work / "checkpoints").mkdir(parents=True)
        (work / "checkpoints" / "step-10.pt").write_bytes(b"x" * 2048)
        age(work, days)
    live = running(store, "students/running-0123456789", [])
    (live / "checkpoint.pt").write_bytes(b"x")
    age(live, 40)
    os.utime(lease_path(live))  # its heartbeat
    found = {work.name.removesuffix("-0123456789"): work for work in half_finished(store)}
    assert found["running"].is_live
    assert not found["killed"].is_live
    assert found["killed"].holder.owner == "killed"
    prune = plan_prune(store, {"a.yaml": {"students/needed-0123456789"}}, 30 * DAY_S)
    assert [work.name for work in prune.works] == ["killed-0123456789", "old-0123456789"]
    assert "process" in housekeeping.describe(prune, store)
    assert remove(store, prune) == []
    stays = [f"{name}-0123456789" for name in ("needed", "running", "young")]
    assert sorted(path.name for path in (store.root / ".work").iterdir()) == stays


def test_looking_at_half_finished_work_does_not_make_it_younger(store, dead):
    work = dead(store, "students/killed-0123456789")
    (work / "checkpoint.pt").write_bytes(b"x")
    age(work, 40)
    first, second = half_finished(store)[0], half_finished(store)[0]
    assert first.modified == second.modified < time.time() - 39 * DAY_S


def test_what_killed_builds_left_and_what_was_set_aside_goes_by_age(family):
    for name in (".digits-net-kd-seed0-cccccccccc.0a1b2c3d.tmp", ".x-0123456789.00ff00ff.old"):
        (family.root / "students" / name).mkdir()
    (family.root / "students" / "my notes").mkdir()
    aside = family.set_aside(EVALUATION)
    for folder in [*(family.root / "students").iterdir(), aside]:
        age(folder, 50)
    needed = {"a.yaml": {STUDENT}}
    assert plan_prune(family, needed, 60 * DAY_S).remains == ()
    prune = plan_prune(family, needed, 30 * DAY_S)
    assert len(prune.remains) == 3
    assert remove(family, prune) == []
    assert sorted(p.name for p in (family.root / "students").iterdir()) == ["digits-net-kd-seed0-cccccccccc", "my notes"]
    assert not aside.exists()


def test_what_cannot_be_removed_is_named_and_the_rest_goes(family, monkeypatch):
    def refuse(folder, real=housekeeping._hide):
        if folder == family.path(TEACHER):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(housekeeping, "_hide", refuse)
    assert remove(family, plan_prune(family, {}, 0)) == [f"{TEACHER}: not removed: Permission denied"]
    assert family.refs() == [TEACHER]


def test_what_spikedistill_did_not_make_stays(store, put):
    put(store, DATA, days_old=100)
    others = ["code/webapp", "code/app-0123456789", "data/my-pictures", "students/thesis", ".work/notes", ".set-aside/notes"]
    others += ["code/.app-0123456789.00ff00ff.old", "students/.thesis.0a.old"]
    for name in others:
        (store.root / name).mkdir(parents=True)
        (store.root / name / MANIFEST).write_text('{"name": "an app"}')
        age(store.root / name, 100)
    unreadable = put(store, "teachers/damaged-0123456789", days_old=100)
    store.manifest_path(unreadable).write_text("{")
    prune = plan_prune(store, {}, 0)
    assert refs(prune) == [DATA]
    assert prune.works == prune.remains == ()
    assert "without a manifest that can be read" in prune.kept[unreadable]
    assert remove(store, prune) == []
    assert store.refs() == [unreadable]
    assert all((store.root / name / MANIFEST).exists() for name in others)


def test_the_kinds_are_the_folders_of_the_stages_and_ids_end_the_names():
    assert set(KINDS) == {stage.folder for stage in STAGES.values()}
    assert is_artifact_name(f"digits-{content_id({})}")
    assert not any(
        map(is_artifact_name, ("webapp", ".digits-0123456789", "digits-0123456789-20260101T000000-0a1b", "0123456789"))
    )


@needs_root
def test_what_belongs_to_a_colleague_stays_whole_and_is_named_with_them(shared_store, put):
    as_user(ALICE, lambda: put(shared_store, TEACHER, days_old=100))
    as_user(BOB, lambda: put(shared_store, EVALUATION, days_old=100))
    (problem,) = as_user(BOB, lambda: remove(shared_store, plan_prune(shared_store, {}, 0)))
    assert problem.startswith(f"{TEACHER}: not removed: no permission to change {shared_store.path(TEACHER)}, which belongs to ")
    assert problem.endswith(str(ALICE))
    assert shared_store.refs() == [TEACHER]
    assert shared_store.verify(TEACHER) is None


def test_what_cannot_be_deleted_after_all_is_put_back_while_it_is_whole(family, monkeypatch):
    def refuse(folder, real=shutil.rmtree):
        if folder.parent.name == "teachers":
            raise PermissionError(13, "Permission denied")
        if folder.parent.name == "students":
            (folder / "weights.bin").unlink()
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert sorted(remove(family, plan_prune(family, {}, 0))) == [
        f"{STUDENT}: not removed: Input/output error",
        f"{TEACHER}: not removed: Permission denied",
    ]
    assert family.refs() == [TEACHER]


def test_prune_of_3000_artifacts_with_two_configurations_and_a_running_job(store, put, running):
    data = put(store, "data/digits-0000000000", days_old=90)
    unused = put(store, "data/digits-dvs-0000000000", days_old=90)
    teachers = [put(store, f"teachers/net-seed{i}-{i:010x}", [data], days_old=90) for i in range(100)]
    students = [put(store, f"students/net-kd-seed{i}-{i:010x}", [data, teachers[i % 100]], days_old=90) for i in range(1449)]
    evaluations = [put(store, f"evaluations/student-net-{i:010x}", [data, each], days_old=90) for i, each in enumerate(students)]
    running(store, "students/new-0000000000", [unused, teachers[99]])
    needed = {"a.yaml": set(evaluations[:10]), "b.yaml": set(students[5:20])}
    assert len(store.refs()) == 3000
    start = time.monotonic()
    prune = plan_prune(store, needed, 30 * DAY_S)
    assert remove(store, prune) == []
    print(f"\nprune of 3,000 artifacts: {time.monotonic() - start:.2f} s, {len(prune)} removed")
    kept = {data, unused, *teachers[:20], teachers[99], *students[:20], *evaluations[:10]}
    assert set(store.refs()) == kept
    assert time.monotonic() - start < 60  # 2 s on an idle machine


def test_the_list_shows_size_age_commit_users_and_damage(family):
    (family.path(TEACHER) / "weights.bin").write_bytes(b"short")
    family.manifest_path(EVALUATION).write_text("{")
    entries = artifacts(family)
    assert "weights.bin: 5 bytes, expected" in entries[TEACHER].problem
    assert "damaged manifest" in entries[EVALUATION].problem
    table = listing(entries.values(), {"a.yaml": {STUDENT, DATA}, "b.yaml": {DATA}})
    line = next(line for line in table.splitlines() if line.startswith(DATA))
    assert "100 d" in line
    assert "0123456789" in line
    assert "a.yaml, b.yaml" in line
    assert table.count("damaged: ") == 2
    shown = inventory.as_json(entries[STUDENT], {"a.yaml": {STUDENT}})
    assert shown["needed_by"] == ["a.yaml"]
    assert shown["upstream"].keys() == {DATA, TEACHER}
    json.dumps(shown)


def test_an_artifact_whose_manifest_snakemake_removed_is_still_there(family):
    family.manifest_path(DATA).unlink()
    assert DATA in artifacts(family)
    assert family.status(DATA) == "complete"


def test_usage_by_kind(family):
    (family.work(STUDENT) / "checkpoint").mkdir(parents=True)
    table = usage(family)
    assert [line.split()[0] for line in table.splitlines()[2:]] == [
        *("data", "evaluations", "students", "teachers"),
        *(".work", ".set-aside", "left", "all"),
    ]


@pytest.mark.parametrize(("text", "seconds"), [("12h", 43200), ("30d", 30 * DAY_S), ("1.5w", 10.5 * DAY_S), ("0d", 0)])
def test_ages(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "30 days", "nan d"])
def test_what_is_no_age_is_told(text):
    with pytest.raises(ConfigError, match="such as 30d"):
        parse_age(text)


def test_sizes():
    assert [format_size(size) for size in (0, 1023, 2048, 5 * 2**40)] == ["0 B", "1023 B", "2.0 KiB", "5.0 TiB"]


def test_one_odd_manifest_does_not_hide_the_others(store, put):
    put(store, DATA, spikedistill={"commit": 5}, former_names=5)
    put(store, TEACHER, [DATA], former_names=["teachers/old", 5])
    data, teacher = (artifacts(store)[ref] for ref in (DATA, TEACHER))
    assert (data.commit, data.former_names, teacher.former_names) == ("", (), ("teachers/old",))
    assert all(ref in listing((data, teacher), {}) for ref in (DATA, TEACHER))
