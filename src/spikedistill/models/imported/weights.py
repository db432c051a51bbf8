"""Loads the weights of a checkpoint file into a network.

Letters: K class.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spikedistill.errors import ConfigError
from spikedistill.models.imported.checkpoint import SAFETENSORS, read_checkpoint
from spikedistill.models.imported.layouts import parts
from spikedistill.models.imported.matching import Match, find_match
from spikedistill.models.imported.zoo_network import ZooNetwork

log = logging.getLogger(__name__)

FOR_TEACHERS = (
    ". Give the teacher a `train:` section to fine-tune it with a new classifier, or list in `classes:` which of its classes "
    "those of the dataset are"
)
FOR_STUDENTS = "; a published student has to be of the same classes"
"""What to do about a classifier for another number of classes."""


@dataclass(frozen=True)
class Imported:
    """What was loaded.

    Attributes:
        how: "by name" or "by order".
        place: where in the checkpoint the weights are; empty for the file itself.
        fresh: names of the tensors that keep their initial values: a classifier of another size.
    """

    how: str
    place: str
    fresh: tuple[str, ...]


def load_weights(
    network: nn.Module,
    file: Path,
    *,
    sha256: str | None = None,
    rows: Sequence[int] | None = None,
    fine_tune: bool = False,
    advice: str = FOR_TEACHERS,
) -> Imported:
    """Load a checkpoint into a network.

    Args:
        network: a `Network`, a `ZooNetwork` or a `MultiStepNetwork`.
        file: the checkpoint.
        sha256: checksum that it must have, in hex; None: any.
        rows: the classes of the checkpoint that the network's outputs stand for, in order; None: all of them.
        fine_tune: whether a classifier for another number of classes is left out, to be trained.
        advice: what to do about a classifier for another number of classes, for the error.

    Raises:
        ConfigError: naming the file, what does not fit, and what to do.
    """
    zoo = isinstance(network, ZooNetwork)
    module: nn.Module = network.model if zoo or getattr(network, "runs_all_steps", False) else network  # type: ignore[assignment]
    final = [name.removeprefix("model.") for name in network.final_layers] if zoo else _last_layer(module)  # type: ignore[union-attr,operator]
    rowwise = [f"{name}.{kind}" for name in final for kind in ("weight", "bias")]
    target = module.state_dict()
    content = read_checkpoint(file, sha256)
    try:
        match = find_match(
            target,
            parts(content),
            final=rowwise,
            training_only=network.training_only if zoo else (),  # type: ignore[arg-type]
            ordered=file.suffix != SAFETENSORS,
        )
        tensors = _with_rows(match, target, rowwise, rows, advice=None if fine_tune else advice)
        _check_finite(tensors)
    except ConfigError as err:
        raise ConfigError(f"{file}: {err}") from None
    module.load_state_dict({**target, **tensors})
    imported = Imported(match.how, match.place, tuple(name for name in match.tensors if name not in tensors))
    _tell(file, imported)
    return imported


def _last_layer(network: nn.Module) -> list[str]:
    """Return the name of the layer whose output is the logits, the last linear one; none in a network without any."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]


def _with_rows(
    match: Match, target: dict[str, torch.Tensor], rowwise: Sequence[str], rows: Sequence[int] | None, *, advice: str | None
) -> dict[str, torch.Tensor]:
    """Return the tensors with the chosen rows of the classifier; if `advice` is None, leave out one of another size."""
    tensors = dict(match.tensors)
    for name in (each for each in rowwise if each in tensors):
        found = len(tensors[name])
        if rows is not None:
            if max(rows) >= found:
                raise ConfigError(f"has {found} classes, 0 to {found - 1}, and `classes` names class {max(rows)}")
            tensors[name] = tensors[name][torch.tensor(rows)]
        elif found != len(target[name]):
            if advice is not None:
                raise ConfigError(f"has {found} classes, and the dataset has {len(target[name])}{advice}")
            del tensors[name]
    return tensors


def _check_finite(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not _is_real(tensor):
            raise ConfigError(f"{name} is of {tensor.dtype}, and the network takes real numbers")
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{name} has values that are not finite; the checkpoint is of a run that diverged, or damaged")


def _is_real(tensor: torch.Tensor) -> bool:
    """Return True for real numbers that torch can compute with; it can only copy bit types and packed numbers."""
    try:
        torch.isfinite(tensor.flatten()[:1])
    except NotImplementedError:
        return False
    return not tensor.is_complex()


def _tell(file: Path, imported: Imported) -> None:
    place = f", {imported.place}" if imported.place else ""
    log.info("weights of %s%s, matched %s", file, place, imported.how)
    if imported.fresh:
        log.info("new, with other classes than the checkpoint's: %s", ", ".join(imported.fresh))
