"""What a check says: nothing, or what it found and expected."""

from __future__ import annotations

from types import ModuleType

from spikedistill.components import ComponentParams


class ContractError(AssertionError):
    """A component breaks a promise; the message says which, what was found and what was expected."""


def require(holds: object, message: str) -> None:
    """Raise a ContractError unless a promise holds."""
    if not holds:
        raise ContractError(message)


def require_description(component: ModuleType, what: str) -> None:
    """Raise a ContractError unless the docstring of a file and the descriptions of its parameters say what they are."""
    first = (component.__doc__ or "").strip().partition("\n")[0]
    require(first.endswith("."), f"the docstring of the file begins with one sentence about the {what}; found {first!r}")
    require(issubclass(component.Params, ComponentParams), "Params is a subclass of spikedistill.components.ComponentParams")
    bare = [key for key, field in component.Params.model_fields.items() if not field.description]
    require(not bare, f"every parameter has a description: Field(…, description=…); without: {', '.join(bare)}")
