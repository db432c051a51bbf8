"""The choices that a configuration makes about networks, by name. Imports no torch."""

from __future__ import annotations

from typing import Literal

Backward = Literal["bptt", "rate"]
"""How a student's gradients are computed: through all time steps, or rate-based (see `neurons.rate`)."""

Pooling = Literal["global", "corner"]
"""What a side branch sees of its last map: the mean of all of it, or of its top left 4x4 (see `models.exits`)."""
