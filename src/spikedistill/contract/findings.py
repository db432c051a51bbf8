"""What a check says: nothing, or what it found and expected."""

from __future__ import annotations


class ContractError(AssertionError):
    """A component breaks a promise; the message says which, what was found and what was expected."""


def require(holds: object, message: str) -> None:
    """Raise a ContractError unless a promise holds."""
    if not holds:
        raise ContractError(message)
