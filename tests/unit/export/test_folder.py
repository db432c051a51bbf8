"""An exported network: the files in the folder, and that it computes the same."""

import json
import re
from pathlib import Path

import pytest
import torch

from spikedistill import plugins
from spikedistill.cli import main
from spikedistill.config.check import parse_config
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import open_store
from spikedistill.errors import ArtifactError, ConfigError
from spikedistill.export import load
from spikedistill.export.card import _constants, _results
from spikedistill.export.folder import write_export
from spikedistill.plan.build import build_plan
from spikedistill.project.new import new_component
from spikedistill.stages.network_io import load_network, read_model_spec
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store
from tests.unit.conftest import TRAIN


@pytest.fixture
def batch(trained):
    data = open_store(trained.store.open(trained.plan.stages[trained.student].data))
    return next(Loader(data, "test", batch_size=360).epoch(0))


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_exported_network_needs_no_store_and_gives_the_same_logits(trained, batch, tmp_path, role):
    ref = getattr(trained, role)
    files = write_export(trained.store, ref, tmp_path / "a folder" / "out")
    assert [file.name for file in files] == ["README.md", "model.json", "weights.safetensors"]
    assert [path.name for path in (tmp_path / "a folder").iterdir()] == ["out"]
    folder = trained.store.open(ref)
    spec = read_model_spec(folder)
    original = load_network(spec, open_store(trained.store.open(spec.data)), folder)
    assert torch.equal(load(tmp_path / "a folder" / "out")(batch[0]).logits, original(batch[0]).logits)


def test_the_card_says_what_an_operation_costs():
    assert _constants(None) == ""
    horowitz = {"pj_per_mac": 4.6, "pj_per_ac": 0.9}
    of_papers = " at 4.6 pJ per multiply-accumulate and 0.9 pJ per addition, as in a 45 nm process (Horowitz 2014)"
    assert _constants({"energy_model": horowitz}) == of_papers
    assert _constants({"energy_model": horowitz | {"pj_per_ac": 0.1}}).endswith("0.1 pJ per addition")


def test_the_code_on_the_card_loads_it_and_reaches_the_accuracy_on_the_card(trained, batch, tmp_path, monkeypatch):
    name = Path(trained.student).name
    write_export(trained.store, trained.student, tmp_path / name)
    card = (tmp_path / name / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope = {"inputs": batch[0]}
    exec(lines, scope)
    assert len([line for line in lines.splitlines() if line]) <= 5
    (accuracy,) = re.findall(r"\| accuracy \(%\) \| ([\d.]+) \|", card)
    assert 100 * (scope["prediction"] == batch[1]).double().mean().item() == pytest.approx(float(accuracy), abs=0.005)
    for words in (
        "digits",
        "`kd`",
        "test samples | 360",
        "prepared as 1 x 8 x 8, becomes 8 x 8",
        "## Limits",
        trained.teacher,
        "method: kd",
    ):
        assert words in card


def test_an_existing_folder_and_an_artifact_that_is_no_network_are_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match="exists already"):
        write_export(trained.store, trained.student, tmp_path)
    data = trained.plan.stages[trained.student].data
    with pytest.raises(ConfigError, match="is not a network, but the result of stage preprocess"):
        write_export(trained.store, data, tmp_path / "out")
    with pytest.raises(ConfigError, match="not an exported network"):
        load(tmp_path)


def test_a_pattern_means_networks_alone_and_nothing_is_written_if_one_folder_is_there(trained, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    command = ["export", "*kd*", "--store", str(trained.store.root)]
    assert main(command) == 0
    names = sorted(Path(ref).name for ref in trained.store.refs() if ref.startswith("students/") and "kd" in ref)
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == names
    assert main(["export", "*", "--store", str(trained.store.root)]) == 1
    assert f"exports/{names[0]}: exists already" in caplog.text
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == names


def test_the_card_names_the_folder_that_is_written(trained, tmp_path):
    write_export(trained.store, trained.student, tmp_path / "kd")
    assert "network = load('kd')" in (tmp_path / "kd" / "README.md").read_text()


def test_an_unambiguous_prefix_names_an_artifact(trained):
    assert trained.store.find("digits-resnet8-kd") == trained.student
    assert trained.store.find(trained.teacher) == trained.teacher
    with pytest.raises(ArtifactError, match="fits 3 artifacts"):
        trained.store.find("digits-")
    with pytest.raises(ArtifactError, match="unknown artifact 'digit5-resnet8'"):
        trained.store.find("digit5-resnet8")


def test_the_card_has_the_accuracies_on_corrupted_samples(trained):
    evaluation = json.loads((trained.store.path(trained.plan.rows[1].evaluation) / "evaluation.json").read_text())
    evaluation["robustness"] = [{"kind": "noise", "strength": 0.1, "accuracy": 0.75, "nll": 1.0, "ece": 0.1}]
    assert "| noise 0.1 (%) | 75.00 |" in _results(evaluation)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A folder with an architecture and neurons, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("plugin_with_a_network")
    new_component("architecture", "my-net", folder)
    new_component("neuron", "my-lif", folder)
    yield f"./{folder}"
    plugins.activate([])


def test_an_export_says_which_plugins_it_needs(plugin, batch):
    student = {"arch": "my-net", "neuron": {"name": "my-lif"}, "time_steps": 2, "train": TRAIN}
    experiment = {"dataset": {"name": "digits"}, "student": student, "methods": {"ce": {}}}
    plan = build_plan(parse_config({"plugins": [plugin], "experiments": {"digits": experiment}}))
    store, (row,) = Store("store"), plan.rows
    for spec in plan.stages.values():
        run_stage(spec, store, RunOptions(results=Path("results")))
    write_export(store, row.model, Path("out"))
    plugins.activate([])
    with pytest.raises(ConfigError, match=r"^out: unknown architecture 'my-net'") as caught:
        load("out")
    assert str(caught.value).endswith(f"call spikedistill.use_plugins({plugin!r}) first")
    card = Path("out/README.md").read_text()
    assert f"in `{plugin}`, a plug-in" in card
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    scope = {"inputs": batch[0]}
    exec(lines, scope)
    assert scope["prediction"].shape == batch[1].shape


def test_an_export_of_an_earlier_version_names_no_plugins(trained, tmp_path):
    write_export(trained.store, trained.student, tmp_path / "out")
    file = tmp_path / "out" / "model.json"
    about = json.loads(file.read_text())
    assert about.pop("plugins") == []
    file.write_text(json.dumps(about))
    load(tmp_path / "out")
    file.write_text(json.dumps(about | {"arch": "my-net"}))
    with pytest.raises(ConfigError, match=r"^unknown architecture 'my-net'"):
        load(tmp_path / "out")
