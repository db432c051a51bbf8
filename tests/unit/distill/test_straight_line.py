"""One step of every method: the library's terms are those of the equations written out in straight_line.py."""

import dataclasses

import pytest
import torch
from tests.unit.distill.batches import every_choice, forward_of
from tests.unit.distill.straight_line import LOSSES

from spikedistill import components


def as_lists(forward):
    values = {field.name: getattr(forward, field.name) for field in dataclasses.fields(forward)}
    return {name: value.tolist() for name, value in values.items() if isinstance(value, torch.Tensor)}


@every_choice
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_terms_equal_the_equations(name, params, num_steps, seed):
    method = components.load("distill", name)
    forward = forward_of(method, params, num_steps, dtype=torch.float64, seed=seed)
    settings = method.Params(**params)
    terms = {key: term.item() for key, term in method.loss(forward, settings).items()}
    assert terms == pytest.approx(LOSSES[name](as_lists(forward), settings.model_dump()), rel=0, abs=1e-9)
