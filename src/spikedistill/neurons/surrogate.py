"""Surrogate gradients: they replace ds/dh, the derivative of a spike with respect to the membrane potential, in backward.

Each is alpha * f(alpha * (h - threshold)) with an even f of integral 1, so that a larger alpha makes it narrower and higher.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikedistill.neurons.settings import Surrogate


def sigmoid(potential: Tensor, threshold: float, alpha: float) -> Tensor:
    """Return alpha * g * (1 - g), the derivative of the logistic function g of alpha * (h - threshold); it peaks at alpha / 4."""
    g = (potential - threshold).mul_(alpha).sigmoid_()
    return (1 - g).mul_(g).mul_(alpha)


def triangle(potential: Tensor, threshold: float, alpha: float) -> Tensor:
    """Return the triangle alpha * max(0, 1 - alpha * |h - threshold|); it peaks at alpha and is 2 / alpha wide."""
    return torch.sub(1, (potential - threshold).abs_(), alpha=alpha).clamp_(min=0).mul_(alpha)


DERIVATIVES: dict[Surrogate, Callable[[Tensor, float, float], Tensor]] = {"sigmoid": sigmoid, "triangle": triangle}
"""Surrogate gradients by their name in the config: (h, threshold, alpha) -> ds/dh, elementwise."""
