"""The batches in which a split is evaluated. Training validates in them too, and its code depends on nothing else here.

Importing it imports no torch: estimates of memory need the batch size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikedistill.data.loading.inputs import InputConfig
    from spikedistill.data.loading.loader import Loader
    from spikedistill.data.store import SampleStore
    from spikedistill.train.distributed import World

MAX_BATCH_SIZE, MIN_BATCHES = 256, 16


def batch_size(num_samples: int) -> int:
    """Return the batch size, a function of the split alone, small enough that a few ranks can share a small split."""
    return max(1, min(MAX_BATCH_SIZE, num_samples // MIN_BATCHES))


def evaluation_loader(data: SampleStore, split: str, inputs: InputConfig, world: World) -> Loader:
    """Return the evaluation batches of a split, shared by the ranks."""
    from spikedistill.data.loading.loader import Loader

    size = batch_size(len(data.split(split)))
    return Loader(data, split, batch_size=size, inputs=inputs, rank=world.rank, world_size=world.world_size, device=world.device)
