"""Values of configuration keys about networks. Imports no torch."""

from __future__ import annotations

from typing import Literal

Backward = Literal["bptt", "rate"]
"""How a student's gradients are computed: backpropagation through time, or rate-based (see `neurons.rate`)."""

Pooling = Literal["global", "corner"]
"""Region of its last map that a side branch averages: all of it, or the top left 4x4 (see `models.exits`)."""
