"""docs/methods.md names methods, parameters and neurons as they are. Its tables of parameters are generated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spikedistill import components
from spikedistill.neurons.settings import NeuronConfig

DOCUMENT = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))


def test_sections_are_about_methods():
    assert set(SECTIONS) <= set(components.names("distill"))


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_the_generated_table_of_the_method_s_parameters(name):
    fields = components.load("distill", name).Params.model_fields
    assert (f"<!-- generated: parameters of {name} -->" in SECTIONS[name]) == bool(fields)


def test_published_neurons_are_settings_of_the_neuron():
    header, _, *rows = re.search(r"(?m)^\| published for .*\n(?:\|.*\n)+", DOCUMENT)[0].splitlines()
    names = re.findall(r"`(\w+)`", header)
    cells = [row.strip("| ").split(" | ")[1:] for row in rows]
    published = [NeuronConfig.model_validate_strings(dict(zip(names, each, strict=True))) for each in cells]
    assert set(names) == set(NeuronConfig.model_fields) - {"threshold", "name", "params"}  # all are the LIF neuron
    assert NeuronConfig() in published
