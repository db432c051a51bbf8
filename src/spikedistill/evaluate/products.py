"""Matrix products of two activations, as in attention: what they cost for one sample.

They belong to no layer, so they are intercepted as the torch operations that compute them. Counted like the operations of
layers (see `evaluate.operations`), where the other operand takes the place of the weights:

    synops       of a product with a spiking operand, the first one if both are: one addition for each spike and each value that
                 it meets
    macs         of other products: all multiply-accumulates
    effective    operations of a non-zero value of one and a non-zero value of the other operand

An integer n is n spikes if a neuron of the network can fire that many in a step. Larger ones do not count as spikes here,
although they do at the input of a layer: a product of spikes, such as q k^T, holds numbers of coincidences, and in (q k^T) v
the spikes are v. Teachers from elsewhere have such products, too, and layers that are called as functions, which hooks do not
see: `multiplications` counts everything that a network multiplies.

Elementwise products, such as the masks of Q-K attention and of spike-driven attention, are not counted, as other elementwise
operations are not. Letters: N products of one call, I, K, J sides of [N, I, K] @ [N, K, J].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from spikedistill.evaluate.synapses import Operations, spikes_in
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.train.distributed import World


class ProductMeter(TorchDispatchMode):
    """A context manager that observes the products of activations in a student and sums their counts, which are integers.

    It is idle for networks without spiking neurons, see `multiplications`.
    """

    def __init__(self, model: nn.Module, *, most_spikes: int, signed: bool) -> None:
        """Observe the forward passes of `model`, given how many spikes a neuron can fire, and whether negative ones."""
        super().__init__()
        self._model = model
        self._most, self._signed = most_spikes, signed
        self._idle = not any(
            isinstance(module, SpikingNeuron) or getattr(module, "runs_all_steps", False) for module in model.modules()
        )
        self._tracker = ModuleTracker()
        self._seen: Counter[str] = Counter()
        self._counts: dict[str, dict[str, Tensor]] = {}

    def __enter__(self) -> Self:
        if self._idle:
            return self
        self._start = self._model.register_forward_pre_hook(lambda module, inputs: self._seen.clear())
        self._tracker.__enter__()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._idle:
            return
        super().__exit__(kind, error, trace)
        self._tracker.__exit__(kind, error, trace)
        self._start.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a batched product, then compute it."""
        if func is torch.ops.aten.bmm.default and type(self._model).__name__ in self._tracker.parents:
            self._add(*args)
        return func(*args, **(kwargs or {}))

    def _add(self, first: Tensor, second: Tensor) -> None:
        place = max(self._tracker.parents, key=len).partition(".")[2].removeprefix("network.")
        self._seen[place] += 1
        counts = self._counts.setdefault(f"{place}.matmul{self._seen[place]}", {})
        for key, value in _count(first, second, most=self._most, signed=self._signed).items():
            counts[key] = counts.get(key, 0) + torch.as_tensor(value, device=first.device)

    def layers(self, world: World, num_samples: int) -> Iterator[tuple[str, Operations]]:
        """Yield the name and the operations of each product, over the batches of all ranks."""
        for name, counts in self._counts.items():
            totals = {key: int(world.all_reduce_sum(value)) for key, value in sorted(counts.items())}
            yield name, _operations(totals, num_samples)


def multiplications(model: nn.Module, sample: Tensor) -> int:
    """Return the multiply-accumulates of all convolutions and matrix products of a forward pass, whoever calls them.

    Args:
        model: an ANN, in evaluation mode.
        sample: its input for one sample.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not know these kernels
    try:
        with FlopCounterMode(display=False) as counter:
            model(sample)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() // 2


def _count(first: Tensor, second: Tensor, *, most: int, signed: bool) -> dict[str, Tensor | int]:
    """Return integer counts of [N, I, K] @ [N, K, J]."""
    ones, twos = first != 0, second != 0
    of_first, of_second = ones.sum(1), twos.sum(2)  # [N, K]
    not_first, first_spikes = spikes_in(first, ones, most=most, signed=signed)
    not_second, second_spikes = spikes_in(second, twos, most=most, signed=signed)
    return {
        "products": first.numel() * second.shape[2],
        "nonzero": ones.sum(),
        "effective": (of_first * of_second).sum(),
        "first": first.numel(),
        "first_not_spikes": not_first,
        "first_spikes": first_spikes.sum(),
        "first_meets": second.shape[2] * first_spikes.sum(),
        "second": second.numel(),
        "second_not_spikes": not_second,
        "second_spikes": second_spikes.sum(),
        "second_meets": first.shape[1] * second_spikes.sum(),
    }


def _operations(totals: dict[str, int], num_samples: int) -> Operations:
    products = totals["products"] / num_samples
    spiking = next((each for each in ("first", "second") if not totals[f"{each}_not_spikes"]), None)
    synops = totals[f"{spiking}_meets"] / num_samples if spiking else 0.0
    return Operations(
        spiking=spiking is not None,
        rate=totals[f"{spiking}_spikes"] / totals[spiking] if spiking else totals["nonzero"] / totals["first"],
        macs=products,
        synops=synops,
        estimate=(synops, 1.0),
        dense=products,
        effective=totals["effective"] / num_samples,
    )
