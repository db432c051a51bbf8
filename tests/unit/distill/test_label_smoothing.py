"""Label smoothing in the cross-entropy of the methods and of the teacher, against its definition."""

import dataclasses

import pytest
import torch

from spikedistill import components
from spikedistill.contract.batches import random_inputs
from spikedistill.models import ModelOutput
from spikedistill.stages.teacher import CrossEntropy
from spikedistill.train.objective import Batch

SHARE = 0.2


def smoothed(logits, labels):
    """Return the mean over rows of -sum over c of q[c] log p[c], q = (1 - SHARE) * one-hot + SHARE / C."""
    target = (1 - SHARE) * torch.nn.functional.one_hot(labels, logits.shape[-1]) + SHARE / logits.shape[-1]
    return -(target * torch.log_softmax(logits, -1)).sum(-1).mean()


@pytest.mark.parametrize("name", components.names("distill"))
def test_only_the_cross_entropy_is_smoothed_and_by_its_definition(name):
    method = components.load("distill", name)
    params = method.Params()
    inputs = random_inputs(method, {}, dtype=torch.float64)
    plain = method.loss(inputs, params)
    terms = method.loss(dataclasses.replace(inputs, label_smoothing=SHARE), params)
    assert [key for key in terms if not torch.equal(terms[key], plain[key])] == ["ce"]
    steps, mean = [smoothed(step, inputs.labels) for step in inputs.logits], smoothed(inputs.logits.mean(0), inputs.labels)
    exits = [smoothed(each, inputs.labels) for each in inputs.exits] if inputs.exits is not None else []
    weight = 1 - params.alpha if name == "kdsnn" else 1.0
    expected = sum(exits) if exits else weight * (sum(steps) / len(steps) if "steps" in method.needs(params) else mean)
    torch.testing.assert_close(terms["ce"], expected)


def test_the_teacher_is_smoothed_and_mixed():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, partners = torch.tensor([0, 1, 2, 4]), torch.tensor([3, 3, 2, 0])
    batch = Batch(torch.zeros(4, 1, 2, 2), labels, 0, 0, 0, 4, partners, 0.7)
    term = CrossEntropy(SHARE)(ModelOutput(logits, logits), batch)["ce"]
    torch.testing.assert_close(term, 0.7 * smoothed(logits, labels) + 0.3 * smoothed(logits, partners))
