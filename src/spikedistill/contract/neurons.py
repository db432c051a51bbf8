"""What every neuron promises, on random currents.

Letters: T step, B batch.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from spikedistill.contract.findings import require, require_description
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.neurons.settings import COMMON_KEYS, NeuronConfig

TIME_STEPS, BATCH, UNITS = 5, 3, 400
ABILITIES = frozenset({"rate", "nir"})


def describes_itself(neuron: ModuleType) -> None:
    """The file and every parameter are described; USES and SUPPORTS name known keys and abilities."""
    require_description(neuron, "neuron")
    strange = set(neuron.USES) - COMMON_KEYS
    require(not strange, f"USES names keys of `neuron`: some of {', '.join(sorted(COMMON_KEYS))}; found {', '.join(strange)}")
    strange = set(neuron.SUPPORTS) - ABILITIES
    require(not strange, f"SUPPORTS names some of {', '.join(sorted(ABILITIES))}; found {', '.join(strange)}")


def gives_spikes_of_the_shape_and_dtype_of_its_input(neuron: ModuleType) -> None:
    """The output has the shape and dtype of the input, and is as declared: 0 or 1, or integers up to `most_spikes`."""
    layer = _layer(neuron)
    require(isinstance(layer, SpikingNeuron), f"build returns a SpikingNeuron; found {type(layer).__name__}")
    require(layer.time_steps == TIME_STEPS, f"its time_steps is {TIME_STEPS}; found {layer.time_steps}")
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = _currents().to(dtype)
        out = layer.to(torch.promote_types(dtype, torch.float32))(x)  # as mixed precision does: parameters stay in float32
        require(
            out.shape == x.shape and out.dtype == dtype, f"{dtype} [{len(x)}, …] gives the same; found {out.dtype} {out.shape}"
        )
        low = -layer.most_spikes if layer.signed else 0
        found = sorted(set(out.double().unique().tolist()))
        allowed = [float(value) for value in range(low, layer.most_spikes + 1)]
        require(set(found) <= set(allowed), f"spikes are some of {allowed}; found {found[:10]}")
        require(0 < out.double().abs().mean() < layer.most_spikes, "some neurons fire and some do not at currents around 1")


def starts_at_rest(neuron: ModuleType) -> None:
    """A batch leaves no state behind: the same currents give the same spikes, whatever came between."""
    layer = _layer(neuron)
    first = layer(_currents())
    layer(3 * _currents(seed=1)[: TIME_STEPS * 2])
    require(torch.equal(layer(_currents()), first), "the second time, the same currents give other spikes: start at rest")


def samples_and_time_do_not_mix(neuron: ModuleType) -> None:
    """A sample changes its own spikes alone, and a current none of the spikes before it."""
    layer, x = _layer(neuron), _currents().unflatten(0, (TIME_STEPS, BATCH))
    other, later = x.clone(), x.clone()
    other[:, 0] += 1.0
    later[-1] += 1.0
    out, of_other, of_later = (layer(each.flatten(0, 1)).unflatten(0, (TIME_STEPS, BATCH)) for each in (x, other, later))
    require(torch.equal(out[:, 1:], of_other[:, 1:]), "a sample changes the spikes of another one")
    require(torch.equal(out[:-1], of_later[:-1]), "a later current changes earlier spikes")


def gradients_are_finite_and_reach_every_step(neuron: ModuleType) -> None:
    """The current of every step, and everything that the neuron learns, gets a finite gradient that is not 0."""
    layer, x = _layer(neuron), _currents().requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad is not None
    per_step = x.grad.unflatten(0, (TIME_STEPS, BATCH)).abs().flatten(1).sum(1)
    require(x.grad.isfinite().all(), "the gradient of the currents is finite")
    require((per_step > 0).all(), f"the current of every step gets a gradient; sizes by step: {per_step.tolist()}")
    for name, parameter in layer.named_parameters():
        require(parameter.grad is not None and parameter.grad.isfinite().all(), f"parameter {name} gets a finite gradient")


def integrates_half_precision_in_float32(neuron: ModuleType) -> None:
    """Currents in bfloat16 give the spikes of the same currents in float32."""
    layer, x = _layer(neuron), _currents().bfloat16()
    differing = (layer(x).float() != layer(x.float())).float().mean().item()
    require(differing == 0, f"bfloat16 is integrated in float32, see to_float32; {100 * differing:.2f} % of the spikes differ")


def potentials_are_those_of_every_step(neuron: ModuleType) -> None:
    """`potentials` gives one potential per step, of the shape of a step; or None."""
    layer, x = _layer(neuron), _currents()
    folded = (each.unflatten(0, (TIME_STEPS, BATCH)) for each in (x, layer(x)))
    given = layer.potentials(*folded)
    if given is not None:
        shapes = [tuple(potential.shape) for potential in given]
        require(shapes == [(BATCH, UNITS)] * TIME_STEPS, f"{TIME_STEPS} potentials of {(BATCH, UNITS)}; found {shapes}")


def supports_what_it_says(neuron: ModuleType) -> None:
    """With "rate" it has rate statistics, with "nir" an equal LIF neuron; without, it has none."""
    layer, x = _layer(neuron), _currents().unflatten(0, (TIME_STEPS, BATCH))
    has_rate = type(layer).rate_statistics is not SpikingNeuron.rate_statistics
    require(has_rate == ("rate" in neuron.SUPPORTS), "SUPPORTS has 'rate' if, and only if, there is a rate_statistics")
    if has_rate:
        spikes, rate, eligibility = layer.rate_statistics(x)
        require(torch.equal(spikes.flatten(0, 1), layer(x.flatten(0, 1))), "rate_statistics gives the spikes of forward")
        require(torch.allclose(rate, spikes.mean(0)) and eligibility.shape == rate.shape, "it gives their mean and eligibility")
    lif = layer.equivalent_lif()
    require((lif is not None) == ("nir" in neuron.SUPPORTS), "SUPPORTS has 'nir' if, and only if, there is an equivalent_lif")
    if lif is not None:
        from spikedistill.neurons.lif import LIF

        differing = (LIF(lif, TIME_STEPS)(x.flatten(0, 1)) != layer(x.flatten(0, 1))).float().mean().item()
        require(differing < 1e-3, f"equivalent_lif fires the same spikes; {100 * differing:.2f} % differ")


CHECKS = (
    describes_itself,
    gives_spikes_of_the_shape_and_dtype_of_its_input,
    starts_at_rest,
    samples_and_time_do_not_mix,
    gradients_are_finite_and_reach_every_step,
    integrates_half_precision_in_float32,
    potentials_are_those_of_every_step,
    supports_what_it_says,
)
"""Checks of a neuron."""


def _layer(neuron: ModuleType) -> SpikingNeuron:
    layer: SpikingNeuron = neuron.build(_config(neuron), neuron.Params(), TIME_STEPS)
    return layer


def _config(neuron: ModuleType) -> NeuronConfig:
    return NeuronConfig.model_construct(**{**NeuronConfig().model_dump(), "name": neuron.__name__.rpartition(".")[2]})


def _currents(seed: int = 0) -> Tensor:
    """Return currents [T * B, N] around the default threshold."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TIME_STEPS * BATCH, UNITS, generator=generator) + 0.5
