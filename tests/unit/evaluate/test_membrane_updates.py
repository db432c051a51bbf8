"""Membrane updates, as NeuroBench's MembraneUpdates counts them: by hand, and on snnTorch's neurons, which it reads.

Its definition: in the first step, every neuron counts; in each later one, those whose potential after the step differs from the
one before the step, which is the potential after the step before it.
"""

import pytest
import torch

from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World


def updates(neuron, currents):
    """Return those of currents [T, B, N], over all samples."""
    layer = LIF(neuron, time_steps=len(currents)).eval()
    with torch.no_grad(), ActivityMeter(layer) as meter:
        layer(currents.flatten(0, 1))
    return meter.summary(World(), 1)["membrane_updates"]


@pytest.mark.parametrize(
    ("reset", "currents", "expected"),
    [
        ("hard", [0.0, 0.0, 0.0], 1),  # 0, 0, 0: the first step counts although nothing changes
        ("hard", [0.5, 0.25, 0.25], 1),  # 0.5, 0.5, 0.5: the current replaces what leaks
        ("hard", [2.0, 3.0, 1.5], 1),  # fires at every step: 0, 0, 0
        ("soft", [2.0, 3.0, 1.5], 3),  # fires at every step: 1, 2.5, 1.75
        ("hard", [0.5, 0.5, 2.0], 3),  # 0.5, 0.75, 0: a reset is a change
        ("hard", [0.5, 2.0, 0.0], 2),  # 0.5, 0, 0
    ],
)
def test_an_update_is_a_change_between_potentials_after_the_reset(reset, currents, expected):
    neuron = NeuronConfig(decay=0.5, threshold=1.0, reset=reset)
    assert updates(neuron, torch.tensor(currents)[:, None, None]) == expected


def test_the_count_is_that_of_neurobench_on_neurons_of_snntorch():
    snntorch = pytest.importorskip("snntorch")
    currents = (torch.randn(6, 4, 50, generator=torch.Generator().manual_seed(0)) * 2).round() / 2  # zeros, and equal potentials
    below = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))  # snnTorch fires above, and not at the threshold
    leaky = snntorch.Leaky(beta=0.5, threshold=below, reset_mechanism="zero", reset_delay=False, init_hidden=True)
    before, after = [], []
    for step in currents:
        before.append(leaky.mem)
        leaky(step)
        after.append(leaky.mem)
    # the two sums of neurobench.metrics.workload.MembraneUpdates
    theirs = torch.count_nonzero(torch.stack(before[1:]) - torch.stack(after[1:])).item() + after[0].numel()
    assert theirs < currents.numel()
    assert updates(NeuronConfig(decay=0.5, threshold=1.0), currents) == theirs
