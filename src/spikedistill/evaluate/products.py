"""Matrix products of two activations, as in attention: what they cost for one sample.

They belong to no layer, so they are seen as the operations that they end in. Counted like the operations of layers (see
`evaluate.operations`), where the other operand takes the place of the weights:

    synops       of a product with a spiking operand, the first one if both are: one addition for each spike and each value that
                 it meets
    macs         of other products: all multiply-accumulates
    effective    operations of a non-zero value of one and a non-zero value of the other operand

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
from torch.utils.module_tracker import ModuleTracker

from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.train.distributed import World


class ProductMeter(TorchDispatchMode):
    """A context manager that observes the products of activations in a student and sums their counts, which are integers.

    It is idle for networks that do not run all steps at once: those of this package have no such products.
    """

    def __init__(self, model: nn.Module) -> None:
        """Observe the forward passes of `model`."""
        super().__init__()
        self._model = model
        self._idle = not any(getattr(module, "runs_all_steps", False) for module in model.modules())
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
        """Count a batched product, and let it happen."""
        if func is torch.ops.aten.bmm.default and type(self._model).__name__ in self._tracker.parents:
            self._add(*args)
        return func(*args, **(kwargs or {}))

    def _add(self, first: Tensor, second: Tensor) -> None:
        place = max(self._tracker.parents, key=len).partition(".")[2].removeprefix("network.")
        self._seen[place] += 1
        counts = self._counts.setdefault(f"{place}.matmul{self._seen[place]}", {})
        for key, value in _count(first, second).items():
            counts[key] = counts.get(key, 0) + torch.as_tensor(value, device=first.device)

    def layers(self, world: World, num_samples: int, energy: EnergyConfig) -> Iterator[dict[str, Any]]:
        """Yield what `OperationMeter.summary` has for each layer, over the batches of all ranks."""
        for name, counts in self._counts.items():
            totals = {key: int(world.all_reduce_sum(value)) for key, value in sorted(counts.items())}
            yield {"name": name, **_operations(totals, num_samples, energy)}


def _count(first: Tensor, second: Tensor) -> dict[str, Tensor | int]:
    """Return integer counts of [N, I, K] @ [N, K, J]."""
    ones, twos = first != 0, second != 0
    return {
        "products": first.numel() * second.shape[2],
        "effective": (ones.sum(1) * twos.sum(2)).sum(),
        "first": first.numel(),
        "first_nonzero": ones.sum(),
        "first_not_spikes": (ones & (first != 1)).sum(),
        "first_meets": second.shape[2] * ones.sum(),
        "second": second.numel(),
        "second_nonzero": twos.sum(),
        "second_not_spikes": (twos & (second != 1)).sum(),
        "second_meets": first.shape[1] * twos.sum(),
    }


def _operations(totals: dict[str, int], num_samples: int, energy: EnergyConfig) -> dict[str, Any]:
    operand = next((each for each in ("first", "second") if not totals[f"{each}_not_spikes"]), None)
    shown = operand or "first"
    per_sample = {key: totals[key] / num_samples for key in ("products", "effective", f"{shown}_meets")}
    synops = per_sample[f"{shown}_meets"] if operand else 0.0
    macs = 0.0 if operand else per_sample["products"]
    result: dict[str, Any] = {
        "spiking_input": operand is not None,
        "input_rate": totals[f"{shown}_nonzero"] / totals[shown],
        "macs": macs,
        "synops": synops,
        "dense": per_sample["products"],
        "effective_macs": 0.0 if operand else per_sample["effective"],
        "effective_acs": per_sample["effective"] if operand else 0.0,
        "energy_pj": energy.pj_per_mac * macs + energy.pj_per_ac * synops,
    }
    if operand:
        result["estimate"] = {"synops": synops, "energy_pj": energy.pj_per_ac * synops}
    return result
