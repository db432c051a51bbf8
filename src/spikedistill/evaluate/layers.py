"""Which layers of a network are measured, and what a reader calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import nn

from spikedistill.neurons.lif import LIF

Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
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
