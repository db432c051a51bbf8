"""Batches of random values for the losses, and every method with every choice of its parameters."""

import dataclasses
import itertools
from typing import Literal, get_args, get_origin

import pytest
import torch

from spikedistill import components
from spikedistill.distill.method_inputs import MethodInputs

METHODS = components.names("distill")


def with_every_choice():
    """Each method with its defaults, and with every value of every parameter that is a choice among names."""
    for name in METHODS:
        fields = components.load("distill", name).Params.model_fields
        choices = {key: get_args(field.annotation) for key, field in fields.items() if get_origin(field.annotation) is Literal}
        for values in itertools.product(*choices.values()):
            yield pytest.param(name, dict(zip(choices, values, strict=True)), id="-".join([name, *values]))


every_choice = pytest.mark.parametrize(("name", "params"), list(with_every_choice()))


def inputs_of(method, params, num_steps=4, *, largest=2.0, dtype=torch.float32, seed=0):
    """A batch of random values, with no more in it than the method declares: T steps, B=4, C=5, K=3 exits, D=6 maps of 4x4."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return largest * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)

    fields = {"logits": uniform(num_steps, 4, 5), "teacher_logits": uniform(4, 5), "exits": uniform(3, 4, 5)}
    fields["features"] = (uniform(num_steps, 4, 6, 4, 4) > 0).double()
    fields["teacher_features"] = uniform(4, 8, 4, 4).relu()
    fields["teacher_weight"] = uniform(5, 8)
    fields["noise"] = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    needs = method.needs(method.Params(**params))
    declared = {"logits", *needs} | ({"teacher_logits"} if "teacher" in needs else set())
    declared |= {"teacher_features", "teacher_weight"} if {"features", "teacher"} <= needs else set()
    given = {name: value.to(dtype) for name, value in fields.items() if name in declared}
    return MethodInputs(labels=torch.tensor([0, 1, 2, 4]), **given)


def changed(inputs, change):
    """The inputs with every tensor of floating point changed."""
    values = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    floats = {name: value for name, value in values.items() if isinstance(value, torch.Tensor) and value.is_floating_point()}
    return dataclasses.replace(inputs, **{name: change(value) for name, value in floats.items()})
