"""`spikedistill submit` refuses what it would otherwise ignore."""

from pathlib import Path

import pytest

from spikedistill.cli import main

CONFIG = Path(__file__).parents[3] / "config.yaml"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gpu_modle=a100", "--set: unknown resource 'gpu_modle'. Did you mean 'gpu_model'?"),
        ("nodes", "--set: expected key=value, found 'nodes'"),
        ("nodes=[", "--set nodes, line 1: expected the node content"),
    ],
)
def test_a_resource_that_nobody_knows_is_refused(tmp_path, monkeypatch, caplog, given, message):
    monkeypatch.chdir(tmp_path)
    arguments = ["submit", "digits-resnet8-tet-seed0", "--configfile", str(CONFIG), "--cluster", "local", "--set", given]
    assert main(arguments) == 1
    assert message in caplog.text
    assert list(tmp_path.iterdir()) == []
