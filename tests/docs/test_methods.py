"""docs/methods.md describes every method, with the parameters that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spikedistill import components
from spikedistill.neurons.settings import NeuronConfig

DOCUMENT = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))


def _table_rows(text: str) -> list[list[str]]:
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines]


@pytest.mark.parametrize("name", components.names("distill"))
def test_parameters_are_those_of_the_method(name):
    assert name in SECTIONS, f"docs/methods.md has no section `{name}`"
    fields = components.load("distill", name).Params.model_fields
    expected = [[f"`{key}`", f"`{field.default}`", field.description] for key, field in fields.items()]
    documented = [row for row in _table_rows(SECTIONS[name]) if row != ["parameter", "default", "meaning"]]
    assert documented == expected


def test_the_overview_says_what_each_method_needs():
    rows = {re.sub(r"[^\w].*", "", row[0][2:]): row[2:4] for row in _table_rows(DOCUMENT.split("## Notation")[0])[1:]}
    assert set(rows) == set(components.names("distill"))
    for name, (teacher, with_rate) in rows.items():
        method = components.load("distill", name)
        needs = method.needs(method.Params())
        assert (teacher == "yes") == ("teacher" in needs)
        assert with_rate.startswith("yes") == ("steps" not in needs)


def test_the_neuron_s_settings_and_published_neurons_are_named_as_they_are():
    rows = _table_rows(DOCUMENT.split("## The neuron")[1].split("\n## ")[0])
    fields = NeuronConfig.model_fields
    defaults = {key: str(field.default).lower() for key, field in fields.items()}
    assert rows[1 : len(fields) + 1] == [[f"`{key}`", f"`{defaults[key]}`", field.description] for key, field in fields.items()]
    names = [name.strip("`") for name in rows[len(fields) + 1][1:]]
    published = [NeuronConfig.model_validate_strings(dict(zip(names, row[1:], strict=True))) for row in rows[len(fields) + 2 :]]
    assert set(names) == set(fields) - {"threshold"}
    assert NeuronConfig() in published
