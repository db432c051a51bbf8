"""Names of SpikingJelly's models, read from its source files without importing it, and what each needs. Imports no torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikedistill.lazy import package_folder

FILES = (
    "masnn", "maxformer", "ms_resnet", "parametric_lif_net", "qkformer", "sew_resnet", "spike_driven_transformer",
    "spikformer", "spiking_resnet", "spiking_vgg",
)  # fmt: skip
"""Files of spikingjelly.activation_based.model whose models run all time steps at once."""
CLASSES = "parametric_lif_net"
"""The one file whose models are classes; in the others, functions build them."""

NEEDS: dict[str, dict[str, Any]] = {
    "masnn": {"size": 32, "min_time_steps": 5},
    "spiking_vgg": {"min_side": 32},
    "MNISTNet": {"size": 28, "classes": 10},
    "FashionMNISTNet": {"size": 28, "classes": 10},
    "NMNISTNet": {"size": 34, "classes": 10},
    "CIFAR10Net": {"size": 32, "classes": 10},
    "CIFAR10DVSNet": {"size": 128, "classes": 10},
    "DVSGestureNet": {"size": 128, "classes": 11},
}
"""By name of the model, else by family: `size`, `min_side`, `min_time_steps`, `classes`; see `config.networks.multi_step`."""
ARGUMENTS: dict[str, dict[str, Any]] = {"sew_resnet": {"cnf": "ADD"}}
"""Arguments by family, besides those that every model gets: the way spikes of body and shortcut are joined has no default."""


@functools.cache
def models() -> dict[str, str]:
    """Return the models of the installed SpikingJelly, sorted: name -> its family, the stem of the file that defines it.

    The family of att_ms_resnet18, which masnn.py defines, is att_ms_resnet.

    Returns:
        Empty if SpikingJelly is not installed.
    """
    folder = _folder()
    if folder is None:
        return {}
    found = {name: stem for stem in FILES for name in _builders(folder / f"{stem}.py", classes=stem == CLASSES)}
    families = {name: "att_ms_resnet" if name.startswith("att_ms_resnet") else stem for name, stem in found.items()}
    return dict(sorted(families.items()))


def _builders(file: Path, *, classes: bool) -> Iterator[str]:
    """Yield the public functions that take `spiking_neuron`, or the public classes of networks."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    is_builder = _is_network if classes else _is_function
    yield from (node.name for node in tree.body if is_builder(node))  # type: ignore[attr-defined]


def _is_network(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and not node.name.startswith("_")


def _is_function(node: ast.stmt) -> bool:
    arguments = [each.arg for each in node.args.args] if isinstance(node, ast.FunctionDef) else []
    return "spiking_neuron" in arguments and not node.name.startswith("_")  # type: ignore[attr-defined]


def _folder() -> Path | None:
    package = package_folder("spikingjelly")
    return package and package / "activation_based" / "model"
