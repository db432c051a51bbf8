"""`spikedistill compare`: differences of specs, and measurements."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikedistill.errors import ArtifactError
from spikedistill.report.compare import _measured, compare


def table(text):
    lines = [line for line in text.splitlines() if line.strip() and not set(line) <= {"-", " "}]
    return {line.split("  ")[0].strip(): line.split("  ", 1)[1].split() for line in lines[1:]}


def test_columns_are_networks_and_rows_are_differences_and_measurements(trained):
    text = compare(trained.store, ["digits-resnet8-seed0", "digits-resnet8-kd"])
    assert text.splitlines()[0].split() == [Path(trained.teacher).name, Path(trained.student).name]
    rows = table(text)
    assert rows["arch"] == ["resnet8", "resnet8"]
    assert rows["time_steps"] == ["-", "2"]
    assert rows["method"] == ["-", "kd"]
    assert "train.epochs" not in rows  # equal
    evaluation = trained.plan.rows[1].evaluation
    measured = json.loads((trained.store.path(evaluation) / "evaluation.json").read_text())
    assert rows["accuracy (%)"][1] == f"{100 * measured['accuracy']:.2f}"
    assert rows["firing rate"] == ["-", f"{measured['firing_rate']['mean']:.3f}"]


def test_an_evaluation_stands_for_its_network_and_data_for_none(trained):
    assert compare(trained.store, [trained.plan.rows[1].evaluation]) == compare(trained.store, [trained.student])
    with pytest.raises(ArtifactError, match="neither a teacher nor a student"):
        compare(trained.store, [trained.plan.stages[trained.student].data])


def test_comparing_imports_no_torch(trained):
    code = (
        "import sys; from spikedistill.cli import main; "
        f"main(['compare', 'digits-resnet8-kd', '--store', {str(trained.store.root)!r}]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "kd" in done.stdout


def test_accuracies_on_corrupted_samples_are_shown_where_they_were_measured(make):
    first, second = (make.student("kd", seed, 0.9).evaluation for seed in range(2))
    first["robustness"] = [{"kind": "drop_events", "strength": 0.5, "accuracy": 0.625, "nll": 1.0, "ece": 0.1}]
    assert ["drop events 0.5 (%)", "62.50", "-"] in _measured([first, second])


def test_what_an_operation_costs_is_shown_where_it_differs(make):
    first, second = (make.student("kd", seed, 0.9).evaluation for seed in range(2))
    first["energy_model"] = {"pj_per_mac": 4.6, "pj_per_ac": 0.9}
    second["energy_model"] = dict(first["energy_model"])
    assert not [row for row in _measured([first, second, None]) if row[0].startswith("pj_")]
    second["energy_model"]["pj_per_ac"] = 0.1
    assert ["pj_per_ac", "0.9", "0.1", "-"] in _measured([first, second, None])
