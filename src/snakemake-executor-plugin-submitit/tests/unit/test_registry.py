"""The registry, read by those that change nothing in it."""

import json

from snakemake_executor_plugin_submitit.tracking import registry
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission


def test_reading_changes_nothing_and_leaves_out_what_is_damaged(tmp_path):
    (tmp_path / "job").mkdir()
    writer = Registry(tmp_path)
    submission = Submission(str(tmp_path / "job"), [Record("a", str(tmp_path / "job"), ("out",))], is_array=False, job_id="7")
    writer.note(submission)
    (tmp_path / "job" / registry.REPORTED).touch()  # `load` would remove such an entry
    (tmp_path / "registry" / "other.json").write_text("{")
    before = {file.name: file.read_bytes() for file in (tmp_path / "registry").iterdir()}
    assert [(each.job_id, each.records[0].outputs) for each in Registry(tmp_path).read()] == [("7", ("out",))]
    assert {file.name: file.read_bytes() for file in (tmp_path / "registry").iterdir()} == before


def test_a_registry_of_somebody_else_is_not_believed(tmp_path, monkeypatch):
    writer = Registry(tmp_path)
    writer.note(Submission(str(tmp_path), [Record("a", str(tmp_path), ())], is_array=False, job_id="7"))
    monkeypatch.setattr(registry, "is_ours", lambda folder: False)
    assert Registry(tmp_path).read() == []
    reader = Registry(tmp_path)
    assert reader.load() == [] and not reader.has_open()
    json.loads(next((tmp_path / "registry").glob("*.json")).read_text())  # and is still there


def test_there_is_nothing_to_read_without_a_registry(tmp_path):
    assert Registry(tmp_path / "none").read() == Registry(tmp_path / "none").load() == []
    assert not (tmp_path / "none").exists()


def test_a_record_keeps_its_digests_and_those_of_earlier_versions_have_none(tmp_path):
    record = Record("a", str(tmp_path), ("out",), ("0f", "1e"))
    Registry(tmp_path).note(Submission(str(tmp_path), [record], is_array=False, job_id="7"))
    assert Registry(tmp_path).read()[0].records == [record]
    note = next((tmp_path / "registry").glob("*.json"))
    content = json.loads(note.read_text())
    del content["records"][0]["digests"]
    note.write_text(json.dumps(content))
    assert Registry(tmp_path).read()[0].records[0].digests == ()
