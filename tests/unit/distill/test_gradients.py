"""Gradients of methods with trainable parts: those of the equations written out, by finite differences of every number.

The batch is tiny, because each of its numbers and of the weights of the parts is moved on its own.
"""

import copy
import dataclasses

import pytest
import torch

from spikedistill import components
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.distill.shapes import MapShape, Shapes
from tests.unit.distill.batches import with_every_choice
from tests.unit.distill.straight_line_maps import LOSSES

STEP = 1e-5
STUDENT = (MapShape(1, 3, 4), MapShape(2, 2, 2), MapShape(2, 2, 3))
TEACHER = (MapShape(2, 3, 2), MapShape(3, 2, 3))  # of other sides, and without a partner for the student's first stage


def tiny_batch(method, params, num_steps=2, num_samples=2):
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

    needs = method.needs(params)
    kept = slice(None) if "stages" in needs else slice(-1, None)
    torch.manual_seed(0)
    return MethodInputs(
        logits=draw(num_steps, num_samples, 3),
        labels=torch.tensor([0, 2]),
        teacher_logits=draw(num_samples, 3),
        stages=tuple(draw(num_steps, num_samples, *shape) for shape in STUDENT)[kept],
        teacher_stages=tuple(draw(num_samples, *shape) for shape in TEACHER)[kept],
        uniform=torch.tensor([[0.9, 0.1, 0.9], [0.9, 0.9, 0.1]]).double() if "uniform" in needs else None,
        parts=method.build(params, Shapes(STUDENT, TEACHER, num_steps, 3)).double(),
    )


def every_number(value):
    """(container, position) of every number in nested lists or in a dict of them."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(child, float):
            yield value, key
        else:
            yield from every_number(child)


@pytest.mark.parametrize(
    ("name", "params"),
    [choice for choice in with_every_choice() if hasattr(components.load("distill", choice.values[0]), "build")],
)
def test_loss_and_every_gradient_are_those_of_the_equations(name, params):
    method = components.load("distill", name)
    settings = method.Params(**params)
    inputs = tiny_batch(method, settings)
    learners = [inputs.logits, *inputs.stages]
    for learner in learners:
        learner.requires_grad_()
    loss = torch.stack(list(method.loss(inputs, settings).values())).sum()
    loss.backward()
    learners += inputs.parts.parameters()
    found = torch.cat([torch.zeros_like(each).flatten() if each.grad is None else each.grad.flatten() for each in learners])

    fields = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    batch = {key: value.tolist() for key, value in fields.items() if isinstance(value, torch.Tensor)}
    batch |= {key: [each.tolist() for each in value] for key, value in fields.items() if isinstance(value, tuple)}
    batch["parts"] = {key: value.tolist() for key, value in inputs.parts.named_parameters()}
    batch["constant_logits"] = copy.deepcopy(batch["logits"])

    def equations():
        return sum(LOSSES[name](batch, settings.model_dump()).values())

    assert loss.item() == pytest.approx(equations(), rel=1e-12)
    expected = []
    for container, key in every_number([batch["logits"], batch["stages"], batch["parts"]]):
        value = container[key]
        container[key] = value + STEP
        above = equations()
        container[key] = value - STEP
        expected.append((above - equations()) / (2 * STEP))
        container[key] = value
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)
    assert (found != 0).double().mean() > 0.4
