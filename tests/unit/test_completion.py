"""What the shell offers on Tab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONFIG = {
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "student": {"arch": "resnet8", "time_steps": 2, "train": {"epochs": 1, "batch_size": 50}},
            "methods": {"ce": {}, "tet": {}},
        }
    },
}
PROGRAM = """\
import sys
from spikedistill.cli import main
try:
    main()
finally:
    loaded = {"torch", "snakemake.workflow"} & sys.modules.keys()
    assert not loaded, loaded
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "cluster" / "gpu").mkdir(parents=True)
    (tmp_path / "cluster" / "gpu" / "config.yaml").touch()
    return tmp_path


def offered(folder: Path, line: str) -> list[str]:
    """What argcomplete, as a shell calls it, answers to a line with the cursor at its end."""
    answer = folder / "answer"
    variables = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    variables |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=60
    )
    assert "AssertionError" not in done.stderr
    return answer.read_text().split("\n") if answer.exists() else []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("spikedistill stat", ["status"]),
        ("spikedistill logs digits-resnet8-t", ["digits-resnet8-tet-seed0-"]),
        ("spikedistill submit --cluster ", ["slurm", "local"]),
        ("spikedistill submit --set gpus_per_n", ["gpus_per_node="]),
        ("spikedistill status --config experiments.digits.student.time", ["experiments.digits.student.time_steps="]),
        ("spikedistill status --config eng", ["engine="]),
        ("spikedistill cancel --profile cl", ["cluster/gpu"]),
    ],
)
def test_tab_offers(folder, line, words):
    found = offered(folder, line)
    assert len(found) >= len(words)
    for word, offer in zip(sorted(words), sorted(found), strict=True):
        assert offer.startswith(word)


def test_a_mistake_in_the_configuration_offers_nothing(folder):
    (folder / "config.yaml").write_text("experiments: {digits: {dataset: {name: nowhere}}}")
    assert offered(folder, "spikedistill logs digits") in ([], [""])
