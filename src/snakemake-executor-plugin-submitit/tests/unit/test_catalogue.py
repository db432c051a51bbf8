"""What Snakemake's plugin catalogue reads of a plugin: settings as JSON, a description, and two pages of its repository."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

PLUGIN = Path(__file__).parents[2]


@pytest.mark.parametrize(("registry", "name"), [(ExecutorPluginRegistry, "submitit"), (LoggerPluginRegistry, "lines")])
def test_the_settings_can_be_written_as_json(registry, name):
    settings = registry().get_plugin(name).get_settings_info()
    assert settings
    for setting in settings:
        kind = setting.pop("type")
        assert json.loads(json.dumps(setting)) == setting, setting["cliarg"]
        assert kind is None or kind.__name__
        assert setting["help"].endswith("."), setting["cliarg"]


def test_the_metadata_are_those_of_a_plugin():
    found = importlib.metadata.metadata("snakemake-executor-plugin-submitit")
    assert {"snakemake", "plugin", "executor"} <= set(found["Keywords"].split(","))
    assert found["License-Expression"] == "Apache-2.0"
    first, second, *rest = found.get_payload().splitlines()  # the catalogue leaves out the first two lines
    assert first.startswith("# ") and second == "" and rest[0]


def test_its_pages_have_no_heading_above_those_of_the_catalogue():
    intro, further = ((PLUGIN / "docs" / name).read_text() for name in ("intro.md", "further.md"))
    assert "#" not in intro
    assert all(line.startswith("## ") for line in further.splitlines() if line.startswith("#"))
    assert "](../" not in intro + further, "a link that leads out of the catalogue's page"
