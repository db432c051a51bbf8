"""Fits the tensors of a checkpoint to a network: by name, or by order where the names differ.

Letters: K class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch

from spikedistill.errors import ConfigError
from spikedistill.models.imported.layouts import State, without_twins

_COUNTER = "num_batches_tracked"  # counts batches in training; not in every checkpoint
_KINDS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Match:
    """Tensors of a checkpoint that fit a network.

    Attributes:
        how: "by name" or "by order".
        place: where in the checkpoint they are.
        tensors: name in the network -> tensor, without counters of batches.
    """

    how: str
    place: str
    tensors: State


def find_match(
    target: Mapping[str, torch.Tensor],
    parts: Iterable[tuple[str, State]],
    *,
    final: Collection[str],
    training_only: tuple[str, ...] = (),
    ordered: bool = True,
) -> Match:
    """Return the part of a checkpoint that fits a network.

    They are matched by name if all names are there. Otherwise by order: as many tensors, each of the same shape and kind
    (weight, bias, running mean or variance) as its counterpart.

    Args:
        target: state dict of the network.
        parts: places in the checkpoint and their tensors, see `layouts.parts`.
        final: names of the network's tensors with one row per class; their number of rows may differ.
        training_only: prefixes of names that the checkpoint may have beyond those of the network.
        ordered: whether the file keeps the order of its tensors.

    Raises:
        ConfigError: if no part fits, with the first difference of the closest one, or if different ones do.
    """
    found = list(parts)
    wanted = {name: tensor for name, tensor in target.items() if not name.endswith(_COUNTER)}
    attempts = [_by_name(wanted, state, place, final, training_only) for place, state in found]
    matches = [each for each in attempts if each is not None]
    if not matches and ordered:
        attempts = [_by_order(wanted, without_twins(state), place, final) for place, state in found]
        matches = [each for each in attempts if each is not None]
    if not matches:
        raise ConfigError(_closest_difference(wanted, found, final, ordered=ordered))
    distinct = {tuple(map(id, match.tensors.values())): match for match in reversed(matches)}
    if len(distinct) > 1:
        places = ", ".join(repr(match.place) for match in reversed(distinct.values()))
        raise ConfigError(
            f"{len(distinct)} parts of it fit the network: {places}; save the one that you mean as a file of its own"
        )
    return matches[0]


def _fits(ours: torch.Tensor, theirs: torch.Tensor, *, any_rows: bool) -> bool:
    start = 1 if any_rows and ours.dim() else 0
    return ours.dim() == theirs.dim() and ours.shape[start:] == theirs.shape[start:]


def _by_name(
    wanted: Mapping[str, torch.Tensor], state: State, place: str, final: Collection[str], training_only: tuple[str, ...]
) -> Match | None:
    extra = {name for name in state.keys() - wanted.keys() if not name.endswith(_COUNTER)}
    if wanted.keys() - state.keys() or any(not name.startswith(training_only) for name in extra):
        return None
    if not all(_fits(ours, state[name], any_rows=name in final) for name, ours in wanted.items()):
        return None
    return Match("by name", place, {name: state[name] for name in wanted})


def _by_order(wanted: Mapping[str, torch.Tensor], state: State, place: str, final: Collection[str]) -> Match | None:
    names = [name for name in state if not name.endswith(_COUNTER)]
    if len(names) != len(wanted):
        return None
    pairs = list(zip(wanted, names, strict=True))
    if not all(_is_counterpart(wanted, ours, state, theirs, final) for ours, theirs in pairs):
        return None
    return Match("by order", place, {ours: state[theirs] for ours, theirs in pairs})


def _is_counterpart(
    wanted: Mapping[str, torch.Tensor], ours: str, state: Mapping[str, torch.Tensor], theirs: str, final: Collection[str]
) -> bool:
    kinds = [name.rpartition(".")[2] for name in (ours, theirs)]
    same_kind = kinds[0] == kinds[1] or not all(kind in _KINDS for kind in kinds)
    return same_kind and _fits(wanted[ours], state[theirs], any_rows=ours in final)


def _closest_difference(
    wanted: Mapping[str, torch.Tensor], found: list[tuple[str, State]], final: Collection[str], *, ordered: bool
) -> str:
    """Describe the first difference between a network and the part of a checkpoint that comes closest to it."""
    if not found:
        return "holds no tensors; expected the state dict of a network"
    best: tuple[int, str] = (-1, "")
    for place, state in found:
        tensors = {name: tensor for name, tensor in without_twins(state).items() if not name.endswith(_COUNTER)}
        equal, message = _first_difference(wanted, tensors, final)
        where = f" (under {place})" if place else ""
        named = len(wanted.keys() & tensors.keys())
        if equal + named > best[0]:
            best = (equal + named, f"{message}{where}")
    hint = "" if ordered else "; a .safetensors file does not keep the order of tensors: with other names, use the .pth file"
    return f"does not fit the network: {best[1]}. Choose the arch that the checkpoint was made with{hint}"


def _first_difference(wanted: Mapping[str, torch.Tensor], tensors: State, final: Collection[str]) -> tuple[int, str]:
    for index, (ours, theirs) in enumerate(zip(wanted, tensors, strict=False)):
        if not _is_counterpart(wanted, ours, tensors, theirs, final):
            expected, shape = (tuple(each.shape) for each in (wanted[ours], tensors[theirs]))
            return index, f"tensor {index + 1} is {theirs} {shape}, where the network has {ours} {expected}"
    counts = f"{len(tensors)} tensors, and the network has {len(wanted)}"
    longer = list(tensors if len(tensors) > len(wanted) else wanted)[min(len(tensors), len(wanted)) :]
    return min(len(tensors), len(wanted)), counts + (f"; the first without counterpart is {longer[0]}" if longer else "")
