"""Several names, and patterns, of stages and of artifacts."""

import json
from pathlib import Path

import pytest
import yaml

from spikedistill.cli import main
from spikedistill.errors import ArtifactError
from spikedistill.store.artifacts import Store
from tests.unit.launch.test_jobs import CONFIG

REFS = tuple(
    f"{each}-0123456789" for each in ("students/a-kd-seed0", "students/a-kd-seed1", "students/a-tet-seed0", "teachers/a-seed0")
)


@pytest.fixture
def store(tmp_path):
    for ref in REFS:
        (tmp_path / ref).mkdir(parents=True)
        content = {"spec": {}, "files": {}, "digest": "", "upstream": {}}
        (tmp_path / ref / "manifest.json").write_text(json.dumps(content))
    return Store(tmp_path)


def test_names_and_patterns_choose_artifacts_each_once(store):
    assert store.select(["a-tet", "*-kd-*", "students/a-kd-seed1-0123456789"]) == [REFS[2], REFS[0], REFS[1]]
    assert store.select(["teachers/*"]) == [REFS[3]]


@pytest.mark.parametrize(
    ("name", "message"), [("*esd*", "no artifact fits the pattern"), ("a-kd", "fits 2 artifacts"), ("x", "unknown")]
)
def test_a_name_that_means_none_or_several_is_told(store, name, message):
    with pytest.raises(ArtifactError, match=message):
        store.select(["a-tet", name])


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG))


def test_submit_takes_several_stages_and_their_upstream_once(project, capsys):
    assert main(["submit", "students/*", "--with-upstream", "--dry-run", "--cluster", "local", "--set", "mem_mb=5000"]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:1].isalpha() and "digits-" in line]
    assert [line for line in lines if line in ("preprocess", "distill")] == ["preprocess", "distill", "distill"]


def test_submit_names_what_is_missing_for_all_of_them(project, caplog):
    assert main(["submit", "students/*", "--dry-run", "--cluster", "local"]) == 1
    assert "preprocess  digits-" in caplog.text
    assert "--with-upstream" in caplog.text


def test_cancel_asks_for_one_way_to_choose(project, caplog):
    for arguments in ([], ["--all", "--stale"], ["digits-resnet8-ce", "--all"]):
        assert main(["cancel", *arguments]) == 1
    assert caplog.text.count("name the stages, or give --all, or --stale") == 3
