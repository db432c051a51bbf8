"""What a check says: nothing, or what it found and expected."""

from __future__ import annotations

from collections import Counter
from types import ModuleType

import torch
from torch import Tensor, nn

from spikedistill.components import ComponentParams
from spikedistill.evaluate.layers import find_layers
from spikedistill.neurons.firing import observed


class ContractError(AssertionError):
    """A component breaks a promise; the message says which, what was found and what was expected."""


def require(holds: object, message: str) -> None:
    """Raise a ContractError unless a promise holds."""
    if not holds:
        raise ContractError(message)


def require_single_use(model: nn.Module, inputs: Tensor) -> None:
    """Raise a ContractError unless every neuron runs once in a forward pass; one of a side branch need not run."""
    runs: Counter[str] = Counter()
    with observed(find_layers(model, "neuron"), lambda name, *_: runs.update([name])), torch.no_grad():
        model(inputs)
    repeated = [name for name, count in runs.items() if count > 1]
    require(not repeated, f"each place of the network has neurons of its own; used more than once: {', '.join(repeated[:4])}")


def require_description(component: ModuleType, what: str) -> None:
    """Raise a ContractError unless the docstring of a file and the descriptions of its parameters say what they are."""
    first = (component.__doc__ or "").strip().partition("\n")[0]
    require(first.endswith("."), f"the docstring of the file begins with one sentence about the {what}; found {first!r}")
    require(issubclass(component.Params, ComponentParams), "Params is a subclass of spikedistill.components.ComponentParams")
    bare = [key for key, field in component.Params.model_fields.items() if not field.description]
    require(not bare, f"every parameter has a description: Field(…, description=…); without: {', '.join(bare)}")
