"""Which layers of a network are measured, what a reader calls them, and how numbers are counted in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikedistill.neurons.lif import LIF
from spikedistill.train.distributed import World

KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "linear": (nn.Linear,),
    "lif": (LIF,),
    "relu": (nn.ReLU,),
}


def find_layers(model: nn.Module, *kinds: str) -> dict[str, nn.Module]:
    """The layers of some `KINDS` in the order of the network, by readable name.

    A name is the place and the kind, numbered where a place has several: stem.lif, stage1.block2.conv1,
    stage2.block1.shortcut.conv, head.linear.
    """
    found = [(path, kind, module) for path, module in model.named_modules() for kind in kinds if isinstance(module, KINDS[kind])]
    places = [(_place(path.split(".")), kind) for path, kind, _ in found]
    repeated, seen = Counter(places), Counter[tuple[str, str]]()
    names = []
    for place, kind in places:
        seen[place, kind] += 1
        number = str(seen[place, kind]) if repeated[place, kind] > 1 else ""
        names.append(f"{place}.{kind}{number}" if place else f"{kind}{number}")
    return {name: module for name, (_, _, module) in zip(names, found, strict=True)}


def _place(path: Sequence[str]) -> str:
    """Stem, stage and block, or head; for a network of another build, the path without the last part."""
    parents = [part for part in path if part != "network"][:-1] if "stages" in path else list(path)
    if "stages" in path:
        stage = path.index("stages") + 1
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


class LayerMeter(ABC):
    """Watches layers of a model while the block runs, and adds up what each shows; counts are whole numbers, so exact."""

    def __init__(self, model: nn.Module, *kinds: str) -> None:
        """Watch the layers of some `KINDS`."""
        self._layers = find_layers(model, *kinds)
        self._counts: dict[str, dict[str, Tensor]] = {name: {} for name in self._layers}
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            self._hooks.append(layer.register_forward_hook(lambda m, x, out, name=name: self._see(name, m, x[0], out)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()

    def _see(self, name: str, layer: nn.Module, x: Tensor, out: Tensor) -> None:
        counts = self._counts[name]
        for key, value in self.counted(layer, x.detach(), out.detach()).items():
            counts[key] = counts.get(key, 0) + torch.as_tensor(value, device=out.device)

    @staticmethod
    @abstractmethod
    def counted(layer: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor | int]:
        """Whole numbers of one call of a layer, by name."""

    def totals(self, world: World) -> Iterator[tuple[str, nn.Module, dict[str, Tensor]]]:
        """Name, layer and its numbers over all ranks; not those of side branches, which run in training alone."""
        for name, layer in self._layers.items():
            if counts := self._counts[name]:
                yield name, layer, {key: world.all_reduce_sum(value) for key, value in sorted(counts.items())}
