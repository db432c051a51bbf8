"""Which values are spikes, and the operations of one layer or product for one sample."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.neurons.firing import observed
from spikedistill.neurons.neuron import SpikingNeuron


class SpikesSoFar:
    """A context manager that tracks, during a forward pass, how many spikes one input value of the next layer can hold.

    Attributes:
        signed: whether some of them can be negative.
    """

    def __init__(self, model: nn.Module) -> None:
        """Observe the neurons of `model`."""
        self._model = model
        self._neurons = {name: module for name, module in model.named_modules() if isinstance(module, SpikingNeuron)}
        self._hooks = ExitStack()
        self._start()

    def __enter__(self) -> Self:
        start = self._model.register_forward_pre_hook(lambda module, inputs: self._start())
        self._hooks.callback(start.remove)
        self._hooks.enter_context(observed(self._neurons, lambda name, layer, x, out: self._add(layer)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hooks.close()

    def _start(self) -> None:
        self._fired, self.signed = 0, False

    def _add(self, layer: nn.Module) -> None:
        assert isinstance(layer, SpikingNeuron)
        self._fired += layer.most_spikes
        self.signed |= layer.signed

    @property
    def most(self) -> int:
        """Maximum number of spikes in one value: the sum over the layers that have run, of one neuron each; at least 1."""
        return max(1, self._fired)


def spikes_in(x: Tensor, nonzero: Tensor, *, most: int, signed: bool) -> tuple[Tensor, Tensor]:
    """Return how many values are not spikes, and how many spikes each of the others is.

    Args:
        x: input of a layer, or operand of a product.
        nonzero: where `x` is not 0.
        most: maximum number of spikes in one value.
        signed: whether spikes can be negative.
    """
    if most == 1 and not signed:
        return (nonzero & (x != 1)).sum(), nonzero
    size = x.abs() if signed else x
    spikes = size.clamp(0, most).int()
    return (spikes != size).sum(), spikes


@dataclass(frozen=True)
class Operations:
    """Operations of a layer, or of a product of activations, for one sample.

    Attributes:
        spiking: whether its input is spikes.
        rate: share of the inputs that are not zero; of spikes, their number per input.
        macs: multiply-accumulates if the input is real-valued.
        synops: additions if it is spikes.
        estimate: the same as papers estimate it, as a product of two numbers.
        dense: products of an input and a weight, or another operand.
        effective: those in which neither is zero.
    """

    spiking: bool
    rate: float
    macs: float
    synops: float
    estimate: tuple[float, float]
    dense: float
    effective: float

    @classmethod
    def of_real_values(cls, macs: float) -> Operations:
        """Return multiply-accumulates of which no more is known: every value counts as not zero."""
        return cls(spiking=False, rate=1.0, macs=macs, synops=0.0, estimate=(0.0, 0.0), dense=macs, effective=macs)

    def entry(self, energy: EnergyConfig) -> dict[str, Any]:
        """Return them by the names that `OperationMeter.summary` explains."""
        macs, synops = (0.0, self.synops) if self.spiking else (self.macs, 0.0)
        result: dict[str, Any] = {
            "spiking_input": self.spiking,
            "input_rate": self.rate,
            "macs": macs,
            "synops": synops,
            "dense": self.dense,
            "effective_macs": 0.0 if self.spiking else self.effective,
            "effective_acs": self.effective if self.spiking else 0.0,
            "energy_pj": energy.pj_per_mac * macs + energy.pj_per_ac * synops,
        }
        if self.spiking:
            number, times = self.estimate
            result["estimate"] = {"synops": number * times, "energy_pj": energy.pj_per_ac * number * times}
        return result
