"""The examples of docs/teachers.md are valid, for the datasets that they are about."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan

PAGE = Path(__file__).parents[2] / "docs" / "teachers.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
TRAIN = {"epochs": 1, "batch_size": 64}


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_are_valid(block, tmp_path):
    torch.save({}, tmp_path / "weights.pth")
    (tmp_path / "weights.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")

    def there(match):
        return f"weights: {tmp_path / ('weights.safetensors' if match[0].endswith('safetensors') else 'weights.pth')}"

    example = yaml.safe_load(re.sub(r"weights: [\w./-]+", there, block))
    experiment = {
        "dataset": {"name": "cifar10", "root": str(tmp_path)},
        "teacher": {"arch": "resnet8", "train": TRAIN},
        "student": {"arch": "resnet18", "time_steps": 4, "train": TRAIN},
        "methods": {"kd": {}},
    }
    plan = build_plan(parse_config({"experiments": {"one": experiment | example}}))
    assert plan.weights
