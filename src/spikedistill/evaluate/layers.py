"""The layers of a network that are measured: finding them, naming them readably, counting in them during forward passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from spikedistill.neurons.firing import observed
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.train.distributed import World

KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "linear": (nn.Linear,),
    "neuron": (SpikingNeuron,),
    "relu": (nn.ReLU,),
}


def find_layers(model: nn.Module, *kinds: str) -> dict[str, nn.Module]:
    """Return the layers of some `KINDS` in the order of the network, by readable name.

    A name consists of place and kind, with a number if a place has several layers of a kind: stem.lif, stage1.block2.conv1,
    stage2.block1.shortcut.conv, head.linear. The kind of neurons is their `label`.
    """
    found = [
        (path, _label(kind, module), module)
        for path, module in model.named_modules()
        for kind in kinds
        if isinstance(module, KINDS[kind])
    ]
    places = [(_place(path.split(".")), kind) for path, kind, _ in found]
    repeated, seen = Counter(places), Counter[tuple[str, str]]()
    names = []
    for place, kind in places:
        seen[place, kind] += 1
        number = str(seen[place, kind]) if repeated[place, kind] > 1 else ""
        names.append(f"{place}.{kind}{number}" if place else f"{kind}{number}")
    return {name: module for name, (_, _, module) in zip(names, found, strict=True)}


def _label(kind: str, module: nn.Module) -> str:
    return module.label if isinstance(module, SpikingNeuron) else kind


def _place(path: Sequence[str]) -> str:
    """Return stem, stage and block, or head; for any other layout, the path without its last part."""
    stage = path.index("stages") + 1 if "stages" in path else len(path)
    if stage < len(path) and path[stage].isdigit():
        parents = [part for part in path if part != "network"][:-1]
        numbers = [int(part) + 1 for part in path[stage : stage + 2] if part.isdigit()]
        place = f"stage{numbers[0]}"
        if len(numbers) > 1 and len(path) > stage + 2:
            place += f".block{numbers[1]}"
        return f"{place}.shortcut" if "shortcut" in parents else place
    if any(part in ("stem", "after_stem") for part in path):
        return "stem"
    if any(part in ("classifier", "head") for part in path):
        return "head"
    return ".".join(part for part in path[:-1] if part != "network")


def _folded(layer: nn.Module, x: Tensor) -> Tensor:
    """Fold all leading dimensions of the input or output of a layer, such as time and tokens, into one; neurons have one."""
    inner = x.dim() - 1
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        inner = 1 + len(layer.kernel_size)
    elif isinstance(layer, nn.Linear):
        inner = 1
    return x if x.dim() <= inner + 1 else x.flatten(0, -inner - 1)


class LayerMeter(ABC):
    """A context manager that observes layers of a model and sums their counts, which are integers and therefore exact."""

    def __init__(self, model: nn.Module, *kinds: str) -> None:
        """Observe the layers of some `KINDS`."""
        self._layers = find_layers(model, *kinds)
        self._counts: dict[str, dict[str, Tensor]] = {name: {} for name in self._layers}
        self._observation = observed(self._layers, self._add)

    def __enter__(self) -> Self:
        self._observation.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._observation.__exit__(kind, error, trace)

    def _add(self, name: str, layer: nn.Module, x: Tensor, out: Tensor) -> None:
        counts = self._counts[name]
        for key, value in self.count(layer, _folded(layer, x.detach()), _folded(layer, out.detach())).items():
            counts[key] = counts.get(key, 0) + torch.as_tensor(value, device=out.device)

    @abstractmethod
    def count(self, layer: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor | int]:
        """Return integer counts of one forward pass of a layer, by name."""

    def totals(self, world: World) -> Iterator[tuple[str, nn.Module, dict[str, Tensor]]]:
        """Yield name, layer and counts over all ranks; side branches, which run only in training, have none."""
        for name, layer in self._layers.items():
            if counts := self._counts[name]:
                yield name, layer, {key: world.all_reduce_sum(value) for key, value in sorted(counts.items())}
