"""The examples of docs/data.md, "Your own data", are configurations that work on such data."""

import re
from pathlib import Path

import pytest
import yaml

from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from tests.files import write_files
from tests.recording_files import folder_files
from tests.unit.data.test_image_folder import folder_files as image_files

TEXT = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8").partition("## Your own data")[2]
EXAMPLES = {
    block["experiments"][label]["dataset"]["name"]: block
    for block in map(yaml.safe_load, re.findall(r"(?ms)^```yaml\n(.*?)^```$", TEXT))
    for label in block["experiments"]
}


def own_files(name):
    if name == "event-folder":
        return folder_files("evt3")
    if name == "image-folder":
        return {path.removeprefix("train/"): content for path, content in image_files().items() if path.startswith("train/")}
    return {f"extract/{'ab'[label]}/{n}.mat": b"" for label in range(2) for n in range(2)}


@pytest.mark.parametrize("name", ["event-folder", "image-folder", "spikingjelly-frames"])
def test_the_example_of_a_dataset_is_a_valid_configuration(tmp_path, name):
    values = EXAMPLES[name]
    for experiment in values["experiments"].values():
        experiment["dataset"]["root"] = str(write_files(tmp_path / "raw", own_files(name)))
    plan = build_plan(parse_config(values))
    [data] = [spec for ref, spec in plan.stages.items() if ref.startswith("data/")]
    assert data.params["content"] and len(data.params["classes"]) == 2
