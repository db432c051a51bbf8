"""The examples of docs/python.md and of the README, and the notebooks, run with a store as the demo leaves it, made small."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
TRAIN = {"epochs": 2, "batch_size": 64}
CONFIG = {
    "seeds": [0],
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": TRAIN},
            "student": {"arch": "resnet8", "time_steps": 4, "train": TRAIN},
            "methods": {"kd": {}},
        }
    },
}


@pytest.fixture(scope="module")
def beside_a_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for spec in build_plan(parse_config(CONFIG)).stages.values():
        run_stage(spec, Store(folder / "store"), RunOptions(results=folder / "results"))
    return folder


def examples(name):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_in_order(blocks):
    scope = {}
    for block in blocks:
        exec(compile(block, "example", "exec"), scope)


@pytest.mark.slow
def test_the_examples_of_the_page_run_in_order(beside_a_store, monkeypatch, capsys):
    monkeypatch.chdir(beside_a_store)
    blocks = examples("docs/python.md")
    assert len(blocks) >= 7
    run_in_order(blocks)
    said = capsys.readouterr().out
    for comment in re.findall(r"print\(error\)  # (.*)", "".join(blocks)):
        assert comment in said.splitlines()
    assert re.search(r"^stem\.lif +0\.\d{3} spikes", said, re.MULTILINE)


@pytest.mark.slow
def test_the_example_of_the_readme_runs(beside_a_store, monkeypatch):
    monkeypatch.chdir(beside_a_store)
    blocks = examples("README.md")
    assert len(blocks) == 1
    run_in_order(blocks)


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_the_notebook_runs_and_shows_pictures(file, beside_a_store):
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(beside_a_store)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_the_stored_outputs_are_of_the_code_as_it_is_and_name_no_machine(file):
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    text = file.read_text(encoding="utf-8")
    assert "/root/" not in text and "/home/" not in text and "/tmp/" not in text
