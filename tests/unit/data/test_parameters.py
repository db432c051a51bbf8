"""Parameters of datasets are to be found: on the command line and in the documents."""

from pathlib import Path

import pytest

from spikedistill import components
from spikedistill.cli import main

DOCUMENT = Path(__file__).parents[3] / "docs" / "data.md"
EVENTS = [name for name in components.names("data.datasets") if name.startswith(("n-", "dvs")) or name.endswith("-dvs")]


@pytest.mark.parametrize("name", EVENTS)
def test_every_parameter_is_listed_and_documented(name, capsys):
    assert main(["list", "datasets", name]) == 0
    listed, document = capsys.readouterr().out, DOCUMENT.read_text()
    for parameter in components.load("data.datasets", name).Params.model_fields:
        assert f"\n  {parameter}: " in listed
        assert f"`{parameter}`" in document
    assert f"`{name}`" in document


def test_an_unknown_dataset_is_refused_with_the_likeliest(caplog):
    assert main(["list", "datasets", "cifar10dvs"]) == 1
    assert "unknown dataset 'cifar10dvs'. Did you mean 'cifar10-dvs'?" in caplog.text
    assert main(["list", "architectures", "resnet8x"]) == 1
