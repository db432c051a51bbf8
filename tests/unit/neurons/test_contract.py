"""What every neuron promises, of this package and of SpikingJelly, and that the checks notice when a promise is broken."""

from types import SimpleNamespace

import pytest
import torch

from spikedistill import components
from spikedistill.contract import neurons as contract
from spikedistill.contract.findings import ContractError
from spikedistill.neurons.stepwise import StepwiseNeuron

OWN = components.names("neurons.kinds")
SPIKINGJELLY = [f"spikingjelly/{name}" for name in components.zoo_names("spikingjelly", "neurons.kinds")]
NEEDED = {"spikingjelly/SimpleLIFNode": {"tau": 2.0, "decay_input": False}, "spikingjelly/SlidingPSN": {"k": 2}}
LATE = "spikingjelly/RAFNode"  # its spikes follow the current one step later, so that the last one has no gradient


def of(name):
    """A neuron whose required parameters are given."""
    found = components.load("neurons.kinds", name)
    if name not in NEEDED:
        return found
    needed = {key: getattr(found, key) for key in ("__name__", "__doc__", "USES", "SUPPORTS", "build")}
    return SimpleNamespace(**needed, Params=lambda: found.Params(**NEEDED[name]))


PROMISES = [
    pytest.param(name, check, id=f"{name}-{check.__name__}")
    for name in [*OWN, *SPIKINGJELLY]
    for check in contract.CHECKS
    if check is not contract.describes_itself or name not in NEEDED  # `of` stands in for their Params
]


@pytest.mark.parametrize(("name", "check"), PROMISES)
def test_a_neuron_keeps_its_promise(name, check):
    if check is contract.gradients_are_finite_and_reach_every_step and name == LATE:
        with pytest.raises(ContractError, match=r"every step gets a gradient; sizes by step: \[.*, 0.0\]"):
            check(of(name))
        return
    check(of(name))


def leaks(x, state, weights):
    leaks.v = getattr(leaks, "v", torch.zeros(())) + x.mean()
    return (x + leaks.v >= 1).to(x.dtype), state


def mixes(x, state, weights):
    return (x - x.mean(0) >= 0.5).to(x.dtype), state


def is_real(x, state, weights):
    return x.clamp(0), state


def has_no_gradient(x, state, weights):
    return (x >= 1).to(x.dtype) + 0 * x, state


BROKEN = {
    leaks: contract.starts_at_rest,
    mixes: contract.samples_and_time_do_not_mix,
    is_real: contract.gives_spikes_of_the_shape_and_dtype_of_its_input,
    has_no_gradient: contract.gradients_are_finite_and_reach_every_step,
}


@pytest.mark.parametrize("step", BROKEN, ids=lambda step: step.__name__)
def test_a_broken_promise_is_noticed(step):
    found = SimpleNamespace(
        __name__="broken", Params=dict, SUPPORTS=(), build=lambda neuron, params, steps: StepwiseNeuron(neuron, steps, step)
    )
    with pytest.raises(ContractError):
        BROKEN[step](found)


def test_what_a_neuron_supports_has_to_be_true():
    found = SimpleNamespace(
        __name__="broken",
        Params=dict,
        SUPPORTS={"rate"},
        build=lambda neuron, params, steps: StepwiseNeuron(neuron, steps, is_real),
    )
    with pytest.raises(ContractError, match="SUPPORTS has 'rate' if, and only if, there is a rate_statistics"):
        contract.supports_what_it_says(found)
