"""When the update of a CUDA graph counts as the update that it stands for; capturing itself is tested in tests/gpu."""

import pytest
import torch
from torch import nn

from spikedistill.train.optim import can_capture, prepare_capture, set_learning_rate
from spikedistill.train.step.graph import _metric_difference, _state_difference


def state(weights, counters=(3.0,)):
    return {"weights": [torch.tensor(weights)], "state of the optimizer": [], "counters": [torch.tensor(c) for c in counters]}


BEFORE = state([1.0, 2.0])
EXPECTED = state([1.1, 2.0], (4.0,))


def test_an_update_that_differs_by_rounding_is_the_same():
    assert _state_difference(BEFORE, EXPECTED, state([1.1001, 2.0], (4.0,))) is None


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (BEFORE, "weights"),
        (state([1.2, 2.0], (4.0,)), "weights"),
        (state([1.1, 2.1], (4.0,)), "weights"),
        (state([1.1, float("nan")], (4.0,)), "weights"),
        (state([1.1, 2.0], (5.0,)), "counters"),
    ],
)
def test_another_update_is_told_with_what_differs(found, kind):
    assert kind in _state_difference(BEFORE, EXPECTED, found)


def test_what_an_update_leaves_alone_has_to_stay_as_it_was():
    assert _state_difference(BEFORE, BEFORE, BEFORE) is None
    assert "weights" in _state_difference(BEFORE, BEFORE, state([1.0, 2.001]))


@pytest.mark.parametrize(("found", "same"), [(2.301, True), (2.4, False), (float("nan"), False)])
def test_metrics_are_compared_by_name(found, same):
    expected = {"loss": torch.tensor(2.3), "grad_norm": torch.tensor(0.5)}
    reason = _metric_difference(expected, expected | {"loss": torch.tensor(found)})
    assert (reason is None) == same
    assert same or "loss is" in reason


def optimizer(kind, **options):
    return kind([{"params": [nn.Parameter(torch.ones(2))]}], lr=0.1, **options)


@pytest.mark.parametrize(
    ("made", "captured"),
    [
        (optimizer(torch.optim.SGD, fused=True), True),
        (optimizer(torch.optim.AdamW, fused=True), True),
        (optimizer(torch.optim.SGD), False),
        (optimizer(torch.optim.RMSprop), False),
        (optimizer(type("Theirs", (torch.optim.SGD,), {}), fused=True), False),
    ],
)
def test_optimizers_with_numbers_on_the_host_are_not_captured(made, captured):
    assert can_capture(made) == captured


def test_the_learning_rate_moves_into_a_tensor_and_back():
    made = optimizer(torch.optim.AdamW, fused=True)
    prepare_capture(made, captured=True)
    place = made.param_groups[0]["lr"]
    set_learning_rate(made, 0.05)
    assert made.param_groups[0]["lr"] is place
    assert float(place) == pytest.approx(0.05)
    assert made.param_groups[0]["capturable"]

    other = optimizer(torch.optim.AdamW, fused=True)  # of a run that resumes where there is no GPU
    other.load_state_dict(made.state_dict())
    prepare_capture(other, captured=False)
    assert other.param_groups[0]["lr"] == pytest.approx(0.05)
    assert isinstance(other.param_groups[0]["lr"], float)
    assert not other.param_groups[0]["capturable"]
