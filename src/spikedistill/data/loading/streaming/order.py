"""A chunked shuffle: an order of samples that reads blocks of consecutive rows, for data larger than memory. Imports no torch.

An epoch is made of blocks in random order, one after the other. Each sample is then delayed at random by up to a window, so that
at any time samples come from a window's worth of blocks. This is a shuffle buffer, but it is computed by a single sort and has no
state, so an epoch can be entered at any step.

All this is done in lanes. A lane is an equal, contiguous part both of the shuffled blocks and of every batch: lane l of L has
places [l * B / L, (l + 1) * B / L) of each batch, from blocks of its own. As ranks take contiguous parts of a batch, each takes
whole lanes if their number divides L, and no two of them read the same block, except those that straddle two lanes, at most L - 1
in an epoch. With another number of ranks, neighbours share a lane, and both read its blocks. Lanes follow from batch size, block
and window alone, so the order is the same for any number of ranks.

Letters: N samples, B batch size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from spikedistill.components import Section
from spikedistill.data.loading.rng import Stream, epoch_words, uniform

MAX_LANES = 64
BLOCKS_OF_LANE = 8  # each lane has at least this many blocks of a window
_LEAST_BLOCKS = 4


class ChunkedShuffle(Section):
    """Shuffle blocks of consecutive samples, and samples within a window of several blocks."""

    block: int = Field(
        8,
        ge=1,
        le=2**20,
        description="Consecutive samples that are read at once. As few as make about 1 MB: the fewer, the better mixed.",
    )
    window: int = Field(
        8192,
        ge=1,
        le=2**30,
        description="Samples that are mixed with each other, over all ranks; about half of them are held in memory.",
    )

    @model_validator(mode="after")
    def _check_window(self) -> ChunkedShuffle:
        if self.window < _LEAST_BLOCKS * self.block:
            raise ValueError(f"window {self.window} must be at least {_LEAST_BLOCKS} blocks of {self.block}: raise it")
        return self

    def lanes(self, batch_size: int) -> int:
        """Return the number of lanes: a divisor of the batch size, small enough that each lane mixes several blocks."""
        limit = max(1, min(MAX_LANES, batch_size, self.window // (BLOCKS_OF_LANE * self.block)))
        return next(lanes for lanes in range(limit, 0, -1) if batch_size % lanes == 0)


def chunked_order(shuffle: ChunkedShuffle, seed: int, epoch: int, num_samples: int, batch_size: int) -> npt.NDArray[np.int64]:
    """Return the training order of an epoch.

    Args:
        shuffle: sizes of block and window.
        seed: of the run.
        epoch: from 0.
        num_samples: N, no fewer than a batch has.
        batch_size: B, of a batch over all ranks.

    Returns:
        A permutation of N places, int64. Those after the last whole batch are left over.
    """
    stream = _shuffled_blocks(shuffle.block, seed, epoch, num_samples)
    lanes, steps = shuffle.lanes(batch_size), num_samples // batch_size
    used = steps * batch_size
    of_lanes = stream[:used].reshape(lanes, -1)
    delays = uniform(epoch_words(seed, epoch, Stream.DELAYS, used), 0, shuffle.window / lanes).reshape(lanes, -1)
    mixed = np.argsort(np.arange(of_lanes.shape[1]) + delays, axis=1, kind="stable")
    batches = np.take_along_axis(of_lanes, mixed, axis=1).reshape(lanes, steps, -1).swapaxes(0, 1)
    return np.concatenate([batches.reshape(-1), stream[used:]])


class ChunkedOrder:
    """The orders of a split whose rows are shuffled in chunks.

    Attributes:
        blocks: number of the block of each sample of the split [N].
    """

    def __init__(self, shuffle: ChunkedShuffle, rows: npt.NDArray[np.int64], seed: int, batch_size: int) -> None:
        """Divide a split into blocks.

        Args:
            shuffle: sizes of block and window.
            rows: row of each sample in the file [N]; blocks are of samples that are neighbours there.
            seed: of the run.
            batch_size: B, of a batch over all ranks.
        """
        self._shuffle, self._seed, self._batch_size = shuffle, seed, batch_size
        self._by_row = np.argsort(rows, kind="stable")
        self.blocks = np.empty(len(rows), dtype=np.int64)
        self.blocks[self._by_row] = np.arange(len(rows)) // shuffle.block

    def of(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the samples of the split in the training order of an epoch [N]."""
        places = chunked_order(self._shuffle, self._seed, epoch, len(self._by_row), self._batch_size)
        return self._by_row[places]


def _shuffled_blocks(block: int, seed: int, epoch: int, num_samples: int) -> npt.NDArray[np.int64]:
    """Return N places: blocks of consecutive ones in random order; the last may have fewer."""
    number = -(-num_samples // block)
    shuffled = np.argsort(epoch_words(seed, epoch, Stream.ORDER, number), kind="stable")
    places = (shuffled[:, None] * block + np.arange(block)).reshape(-1)
    return places[places < num_samples]
