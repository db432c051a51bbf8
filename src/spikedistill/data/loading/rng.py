"""Random words for the samples of an epoch, from a counter-based generator. Numpy only.

Words are a function of (seed, epoch, position of the sample in the epoch, what they are for): no hidden state, the same on any
number of ranks, and what one change to the samples draws never shifts what another one draws.
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
_BLOCK = 4  # words that one count of the generator's counter gives


class Stream(enum.IntEnum):
    """What words are for."""

    ORDER = 1
    GEOMETRY = 2
    AUTO_AUGMENT = 3
    RESIZED_CROP = 4
    EVENTS = 5
    ERASING = 6


def _generator(seed: int, epoch: int, stream: Stream, counter: int = 0) -> np.random.Philox:
    return np.random.Philox(key=[seed, (epoch << 8) | stream], counter=counter)


def draw_order(seed: int, epoch: int, num_samples: int) -> npt.NDArray[np.int64]:
    """A permutation of the samples of an epoch."""
    return np.argsort(_generator(seed, epoch, Stream.ORDER).random_raw(num_samples), kind="stable")


class Draws:
    """The random words of a batch."""

    def __init__(self, seed: int, epoch: int, positions: npt.NDArray[np.int64]) -> None:
        """Use the words of the samples at `positions` [B] of an epoch."""
        self._seed, self._epoch, self._positions = seed, epoch, positions

    def __len__(self) -> int:
        """B."""
        return len(self._positions)

    def words(self, stream: Stream, per_sample: int) -> Words:
        """Random words [B, per_sample]; `per_sample` is fixed for a stream, and a multiple of 4."""
        first, last = int(self._positions.min()), int(self._positions.max())
        generator = _generator(self._seed, self._epoch, stream, counter=first * (per_sample // _BLOCK))
        words = generator.random_raw((last - first + 1) * per_sample).reshape(-1, per_sample)
        return words[self._positions - first]


def below(words: Words, limit: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Integers in [0, limit) from random words."""
    return (words % np.asarray(limit, dtype=np.uint64)).astype(np.int64)


def uniform(words: Words, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float64]:
    """Numbers in [low, high) from random words, with 53 random bits each."""
    return low + (high - low) * ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)
