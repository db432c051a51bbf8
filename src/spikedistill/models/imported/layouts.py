"""Where in a checkpoint the weights of a network are, by the code that wrote it.

| written by | the weights are under | names begin with | left out |
|---|---|---|---|
| SeAl, TDD: teachers and students | `best_net` | | |
| ESD: students | `best_net` | | the branches: `scala1.` …, and their `fc1.` … |
| CKDSNN: students, by Lightning | `state_dict` | `feature_extractor.` | its teacher, `teacher.`; second names of the norms |
| CKDSNN: teachers | `state_dict` | none, or `feature_extractor.` | |
| torchvision, timm | the file itself, or `state_dict`, `model` | none, or `module.` | branches of GoogLeNet and Inception |
| spikedistill: an artifact or an export | the file itself | `network.` | |

All of these repositories create the layers of a network in the same order as ours, so tensors with other names fit by order.
(Order of a residual block: conv, norm, conv, norm, then the shortcut's conv and norm; CKDSNN's `fc2` comes before its
`fc1`.) ESD's branches come after the network.

Other layouts are found, too: every part of a file is tried, under any key and with any common prefix of names removed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch

State = dict[str, torch.Tensor]

_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|hyper_parameters|callbacks|loops|args")
_DEPTH = 4
_LEAST_SHARE = 4  # a common prefix is tried if at least one in this many names has it
_ESD_BRANCHES = re.compile(r"^(scala|fc)\d+\.")
_TWIN = re.compile(r"\.seqbn\.module\.")  # CKDSNN and others register a norm twice: as `bn` and inside `seqbn.module`


def parts(content: Any) -> Iterator[tuple[str, State]]:
    """Yield everything in a checkpoint that may be the weights of a network.

    Args:
        content: as `read_checkpoint` returns it.

    Yields:
        The place, such as `best_net` or `state_dict, feature_extractor.`, and the tensors there.
    """
    for place, state in _states(content, "", 0):
        for beginning, tensors in _without_beginnings(state, "", 0):
            yield ", ".join(filter(None, (place, beginning))), without_branches(tensors)


def without_branches(state: State) -> State:
    """Return a state dict without the side branches of ESD, which exist in training only."""
    if not any(name.startswith("scala") for name in state):
        return state
    return {name: tensor for name, tensor in state.items() if not _ESD_BRANCHES.match(name)}


def without_twins(state: State) -> State:
    """Return a state dict with one name for each tensor: the first of those that share it."""
    found: State = {}
    seen: set[tuple[object, ...]] = set()
    for name, tensor in state.items():
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape))
        renamed = _TWIN.sub(".bn.", f".{name}")[1:]
        if (tensor.numel() and place in seen) or (renamed != name and renamed in state):
            continue
        seen.add(place)
        found[name] = tensor
    return found


def _states(content: Any, place: str, depth: int) -> Iterator[tuple[str, State]]:
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    if state := {str(name): value for name, value in content.items() if _is_dense(value)}:
        yield place, state
    for name, value in content.items():
        if isinstance(value, Mapping) and not _NOT_WEIGHTS.search(str(name).lower()):
            yield from _states(value, f"{place}.{name}" if place else str(name), depth + 1)


def _is_dense(value: Any) -> bool:
    """Return True for a dense tensor in memory: not sparse, quantised, nested, or on the meta device."""
    strided = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return strided and not (value.is_quantized or value.is_nested or value.is_meta)


def _without_beginnings(state: State, beginning: str, depth: int) -> Iterator[tuple[str, State]]:
    """Yield a state dict as it is, then the part under each common prefix of its names, with the prefix removed."""
    yield beginning, state
    if depth == _DEPTH:
        return
    counts = Counter(name.partition(".")[0] for name in state if "." in name)
    for first, count in counts.items():
        if count * _LEAST_SHARE >= len(state):
            below = {name[len(first) + 1 :]: tensor for name, tensor in state.items() if name.startswith(f"{first}.")}
            yield from _without_beginnings(below, f"{beginning}{first}.", depth + 1)
