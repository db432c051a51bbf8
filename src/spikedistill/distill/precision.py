"""Losses in full precision, inside and outside autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from spikedistill.lazy import torch

P = ParamSpec("P")
R = TypeVar("R")


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that a loss is computed in: float32 for half-precision types, otherwise `dtype` itself."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a loss to be computed in float32: autocast off, half-precision arguments converted. float64 stays float64."""

    @functools.wraps(function)
    def in_full_precision(*args: P.args, **kwargs: P.kwargs) -> R:
        positional = [_converted(value) for value in args]
        named = {name: _converted(value) for name, value in kwargs.items()}
        device = next(value.device for value in (*positional, *named.values()) if isinstance(value, torch.Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*positional, **named)  # type: ignore[arg-type]

    return in_full_precision


def _converted(value: object) -> object:
    return value.to(at_least_float32(value.dtype)) if isinstance(value, torch.Tensor) else value
