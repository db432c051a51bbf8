"""Fold the batch normalisations of a network in evaluation mode into the convolutions before them: less to launch and move."""

from __future__ import annotations

import logging
from collections import Counter

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikedistill.models import Teacher

log = logging.getLogger(__name__)


class _Whole(nn.Module):
    """The layers of a teacher, for tracing; it returns every output that a method may ask for."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.network = teacher.network

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = self.network.features(self.network.encode(x))
        return [*stages, self.network.classify(stages[-1])]


def fold_batch_norms(teacher: Teacher) -> int:
    """Fold each batch normalisation that alone gets a convolution's output into that convolution; outputs change by rounding.

    Args:
        teacher: in evaluation mode; changed in place. One whose layers cannot be traced stays as it is.

    Returns:
        How many were folded.
    """
    whole = _Whole(teacher)
    try:
        graph = fx.Tracer().trace(whole)
    except Exception as err:  # a library's own code may raise anything when its input is traced
        log.info("the teacher's batch normalisations stay apart: its layers cannot be traced (%s)", type(err).__name__)
        return 0
    modules = dict(whole.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    pairs = [pair for node in graph.nodes if (pair := _pair(node, modules)) is not None]
    pairs = [pair for pair in pairs if all(calls[id(modules[name])] == 1 for name in pair)]
    for convolution, norm in pairs:
        _replace(whole, convolution, fuse_conv_bn_eval(modules[convolution], modules[norm]))
        _replace(whole, norm, nn.Identity())
    return len(pairs)


def _pair(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, str] | None:
    """Return the names of a convolution and of the normalisation that alone gets its output; None for any other node."""
    following = list(node.users)
    if node.op != "call_module" or len(following) != 1 or following[0].op != "call_module":
        return None
    convolution, norm = str(node.target), str(following[0].target)
    is_pair = type(modules[convolution]) is nn.Conv2d and type(modules[norm]) is nn.BatchNorm2d
    return (convolution, norm) if is_pair and modules[norm].running_var is not None else None


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, module)
