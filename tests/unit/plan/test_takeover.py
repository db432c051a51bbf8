"""Stores of earlier versions: manifests in their form, written by hand, and what becomes of them."""

import copy
import hashlib
import json
import shutil

import pytest

from spikedistill import cli
from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import parse_spec
from spikedistill.plan.takeover import describe, modernized, summary, take_over, takeovers
from spikedistill.plan.uptodate import UpToDate
from spikedistill.store.artifacts import MANIFEST, MANIFEST_BACKUP, Store
from spikedistill.store.lease import Lease, lease_path

TRAIN = {"epochs": 1, "batch_size": 64, "weight_decay_on": "all"}
CONFIG = {
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": TRAIN},
            "student": {
                "arch": "resnet8",
                "time_steps": 2,
                "neuron": {"spike_at_threshold": False},
                "backward": "rate",
                "scale_grad_by_steps": False,
                "train": TRAIN,
            },
            "methods": {"kd": {"params": {"logits": "mean"}}},
        }
    }
}


def old_spec(spec, names):
    """A spec in the form of the version before: every key, former names, no code."""
    old = copy.deepcopy(spec.model_dump(mode="json"))
    for key in ("code", "validation"):
        old.pop(key, None)
    if "train" in old:
        old["train"]["decay"] = old["train"].pop("weight_decay_on")
        old["train"]["schedule"] = "cosine"
        old["train"].pop("select", None)
    if "neuron" in old:
        old["neuron"]["fires"] = "at" if old["neuron"].pop("spike_at_threshold") else "above"
        old["divide_by_steps"] = old.pop("scale_grad_by_steps")
    for role in ("data", "teacher", "model"):
        if old.get(role):
            old[role] = names[old[role]]
    return old


def old_id(spec):
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:10]


@pytest.fixture
def plan(monkeypatch):
    """A plan whose code is as locked: what is edited in this checkout right now does not matter here."""
    monkeypatch.setattr("spikedistill.plan.build.code_of", lambda modules: {})
    return build_plan(parse_config(CONFIG))


@pytest.fixture
def old_store(tmp_path, plan):
    """A store of the version before with every artifact of the plan; also the old reference of each."""
    store, names = Store(tmp_path / "store"), {}
    for ref, spec in plan.stages.items():
        old = old_spec(spec, names)
        names[ref] = f"{ref.rpartition('-')[0]}-{old_id(old)}"
        put(store, names[ref], old, [names[each] for each in spec.upstream.values()])
    return store, names


def put(store, ref, spec, upstream):
    folder = store.path(ref)
    (folder / "deep").mkdir(parents=True)
    files = {}
    for name in ("weights.bin", "deep/more.bin"):
        (folder / name).write_text(f"{ref} {name}")
        files[name] = {"sha256": hashlib.sha256(f"{ref} {name}".encode()).hexdigest(), "bytes": len(f"{ref} {name}")}
    digest = hashlib.sha256(json.dumps(sorted((name, entry["sha256"]) for name, entry in files.items())).encode()).hexdigest()
    manifest = {"schema": 1, "artifact": ref, "spec": spec, "files": files, "digest": digest, "host": "here", "wall_s": 1.0}
    manifest["upstream"] = {each: store.manifest(each)["digest"] for each in upstream}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / MANIFEST_BACKUP).hardlink_to(folder / MANIFEST)


def test_everything_of_the_version_before_is_taken_over_and_used(old_store, plan):
    store, names = old_store
    assert not set(names.values()) & plan.stages.keys()
    content = {old: (store.path(old) / "weights.bin").read_bytes() for old in names.values()}
    found = takeovers(store)
    assert {each.old: each.new for each in found} == {old: ref for ref, old in names.items()}
    assert "5 artifacts are of an earlier version" in summary(found)
    assert "`spikedistill store upgrade` takes over 5" in summary(found)
    assert set(store.refs()) == set(names.values())  # nothing was changed so far
    assert [line.split()[0] for line in take_over(store, found)] == ["taken"] * 5
    assert set(store.refs()) == set(plan.stages)
    up_to_date = UpToDate(plan, store)
    for ref, spec in plan.stages.items():
        assert ref in up_to_date
        assert store.verify(ref) is None
        manifest = store.manifest(ref)
        assert manifest["former_names"] == [names[ref]]
        assert manifest["artifact"] == ref
        assert manifest["host"] == "here"
        assert parse_spec(json.dumps(manifest["spec"])) == spec
        assert (store.path(ref) / "weights.bin").read_bytes() == content[names[ref]]
    assert list((store.root / ".work").iterdir()) == []
    assert list(store.root.glob("[a-z]*/.*")) == []
    assert takeovers(store) == []
    assert summary([]) == ""


@pytest.mark.parametrize("after", range(10))
def test_an_interruption_loses_nothing_and_the_next_run_goes_on(old_store, plan, monkeypatch, after):
    store, names = old_store
    calls = iter(range(1000))

    def interrupt(real):
        def wrapped(*arguments, **more):
            if next(calls) == after:
                raise KeyboardInterrupt
            return real(*arguments, **more)

        return wrapped

    with monkeypatch.context() as patched:
        patched.setattr(Store, "install", interrupt(Store.install))
        patched.setattr("spikedistill.plan.takeover.shutil.rmtree", interrupt(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            list(take_over(store, takeovers(store)))
    there = set(store.refs())
    assert all(old in there or ref in there for ref, old in names.items())
    assert [line for line in take_over(store, takeovers(store)) if line.startswith("left")] == []
    assert set(store.refs()) == set(plan.stages)
    assert all(ref in UpToDate(plan, store) for ref in plan.stages)


def test_what_cannot_be_taken_over_stays_and_the_reason_is_told(old_store, plan):
    store, names = old_store
    teacher = next(old for old in names.values() if old.startswith("teachers/"))
    manifest = store.manifest(teacher)
    manifest["spec"]["train"]["schedule"] = "step"
    store.manifest_path(teacher).write_text(json.dumps(manifest))
    found = {each.old: each for each in takeovers(store)}
    assert found[teacher].reason == "its spec is none that this version knows"
    student = next(old for old in names.values() if old.startswith("students/"))
    assert f"it was made from {teacher}, which cannot be taken over" in found[student].reason
    assert found[next(old for old in names.values() if old.startswith("data/"))].new
    lines = list(take_over(store, list(found.values())))
    assert sum(line.startswith("left") for line in lines) == 4
    assert student in store.refs()
    assert f"{student}: stays, " in describe(list(found.values()))


def test_damaged_and_incomplete_ones_stay(old_store):
    store, names = old_store
    (data,) = (old for old in names.values() if old.startswith("data/"))
    (store.path(data) / "weights.bin").write_text("short")
    assert "damaged: weights.bin" in {each.old: each.reason for each in takeovers(store)}[data]
    shutil.rmtree(store.path(data))
    assert all(
        f"made from {data}, which is not in this store" in each.reason or "cannot be" in each.reason for each in takeovers(store)
    )


def test_what_was_made_anew_already_is_not_replaced(old_store, plan):
    store, names = old_store
    data = next(ref for ref in plan.stages if ref.startswith("data/"))
    put(store, data, plan.stages[data].model_dump(mode="json"), [])
    found = {each.old: each for each in takeovers(store)}
    assert found[names[data]].reason == f"{data} is there already, made anew"


def test_a_running_job_of_the_version_before_keeps_its_artifact(old_store, plan):
    store, names = old_store
    teacher = next(old for old in names.values() if old.startswith("teachers/"))
    lease = Lease(lease_path(store.work(teacher)), "a job")
    assert lease.acquire()
    lines = list(take_over(store, takeovers(store)))
    lease.release()
    assert any(line.startswith(f"left  {teacher}: a running job holds its lease") for line in lines)
    assert teacher in store.refs()


def test_artifacts_of_today_and_of_components_that_are_not_installed_are_left_alone(tmp_path, plan):
    store = Store(tmp_path)
    for ref, spec in plan.stages.items():
        put(store, ref, spec.model_dump(mode="json"), spec.upstream.values())
    assert takeovers(store) == []
    put(store, "data/a-plug-in-0123456789", {"stage": "preprocess", "dataset": "a-plug-in", "params": {}}, [])
    assert takeovers(store) == []


def test_former_keys_get_the_names_of_today():
    old = {
        "train": {"decay": "all", "schedule": "cosine", "lr": 0.1},
        "neuron": {"decay": 0.5, "fires": "above"},
        "divide_by_steps": True,
        "teacher": None,
        "data": "data/old",
    }
    assert modernized(old, {"data/old": "data/new"}) == {
        "train": {"weight_decay_on": "all", "lr": 0.1},
        "neuron": {"decay": 0.5, "spike_at_threshold": False},
        "scale_grad_by_steps": True,
        "teacher": None,
        "data": "data/new",
    }
    assert old["train"]["decay"] == "all"  # the manifest itself stays as it is


def test_the_command_line_tells_and_changes_nothing_without_yes(old_store, plan, tmp_path, monkeypatch, capsys):
    store, names = old_store
    monkeypatch.chdir(tmp_path)
    assert cli.main(["store", "ls", "--store", str(store.root)]) == 0
    assert "5 artifacts are of an earlier version" in capsys.readouterr().out
    assert cli.main(["store", "upgrade", "--store", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "nothing was changed; with --yes it is" in out
    assert set(store.refs()) == set(names.values())
    assert cli.main(["store", "upgrade", "--store", str(store.root), "--yes"]) == 0
    assert set(store.refs()) == set(plan.stages)
    assert cli.main(["store", "upgrade", "--store", str(store.root)]) == 0
    assert "nothing to do" in capsys.readouterr().out.splitlines()[-1]
    old = next(iter(names.values()))
    assert cli.main(["trace", old, "--store", str(store.root), "--results", "none"]) == 0
    assert capsys.readouterr().out.startswith(next(iter(names)))
