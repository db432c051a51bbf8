"""Surrogate derivatives: what takes the place of ds/dh, the derivative of a spike by the membrane potential, in backward.

Each is alpha * f(alpha * (h - threshold)) with an even f of integral 1, so that a larger alpha is narrower and higher.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikedistill.neurons.settings import Surrogate


def sigmoid(potential: Tensor, threshold: float, alpha: float) -> Tensor:
    """The derivative alpha * g * (1 - g) of the logistic g of alpha * (h - threshold); peaks at alpha / 4."""
    g = (potential - threshold).mul_(alpha).sigmoid_()
    return (1 - g).mul_(g).mul_(alpha)


def triangle(potential: Tensor, threshold: float, alpha: float) -> Tensor:
    """The triangle alpha * max(0, 1 - alpha * |h - threshold|); peaks at alpha and is 0 from a distance of 1 / alpha on."""
    return torch.sub(1, (potential - threshold).abs_(), alpha=alpha).clamp_(min=0).mul_(alpha)


DERIVATIVES: dict[Surrogate, Callable[[Tensor, float, float], Tensor]] = {"sigmoid": sigmoid, "triangle": triangle}
"""By name in the config: (potential h, threshold, alpha) -> ds/dh, elementwise."""
