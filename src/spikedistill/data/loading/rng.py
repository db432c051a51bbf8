"""All random numbers of a run, as functions of its seed and of the training step: no state, nothing to checkpoint. Numpy only.

There are two sources:

- `epoch_words` and `SampleRng`: 64-bit words of a counter-based generator (Philox) for the samples of an epoch, a function
  of (seed, epoch, position of the sample in the epoch, `Stream`). They are the same on any number of ranks, and the words that
  one augmentation takes never shift those of another one.
- `derived_seed`: seeds for torch's generators at one training step, a function of (purpose, seed, epoch, step).
"""

from __future__ import annotations

import enum
import hashlib

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
_BLOCK = 4  # words that Philox yields per increment of its counter


class Stream(enum.IntEnum):
    """The use that words are drawn for; each has a key of its own. 7 is that of `prepare.splits`, 11 of `prepare.own_splits`."""

    ORDER = 1
    GEOMETRY = 2
    AUTO_AUGMENT = 3
    RESIZED_CROP = 4
    EVENTS = 5
    ERASING = 6
    ENCODING = 8
    MIXING = 9
    DELAYS = 10


def _generator(seed: int, epoch: int, stream: Stream, counter: int = 0) -> np.random.Philox:
    return np.random.Philox(key=[seed, (epoch << 8) | stream], counter=counter)


def derived_seed(purpose: str, seed: int, epoch: int, step: int, rank: int | None = None) -> int:
    """Return the seed of a generator that serves one training step.

    Args:
        purpose: use of the generator, "noise" for instance; different uses get independent seeds.
        seed: of the run.
        epoch: from 0.
        step: in the epoch, from 0.
        rank: where each rank draws for itself; None where all ranks draw the same.

    Returns:
        63 bits of BLAKE2b (RFC 7693) of the arguments, for `torch.Generator.manual_seed`.
    """
    key = f"{purpose} {seed} {epoch} {step}" + ("" if rank is None else f" {rank}")
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def epoch_words(seed: int, epoch: int, stream: Stream, number: int) -> Words:
    """Return random words [number] of a whole epoch, for a use that needs them all at once."""
    return _generator(seed, epoch, stream).random_raw(number)


def epoch_permutation(seed: int, epoch: int, num_samples: int) -> npt.NDArray[np.int64]:
    """Return the training order of an epoch: a permutation of the sample numbers."""
    return np.argsort(epoch_words(seed, epoch, Stream.ORDER, num_samples), kind="stable")


def batch_words(seed: int, epoch: int, step: int) -> Words:
    """Return the random words [8] of one global batch."""
    return _generator(seed, epoch, Stream.MIXING, counter=2 * step).random_raw(2 * _BLOCK)


class SampleRng:
    """Random words for the samples of one batch."""

    def __init__(self, seed: int, epoch: int, positions: npt.NDArray[np.int64]) -> None:
        """Serve the samples at `positions` [B] of an epoch."""
        self._seed, self._epoch, self._positions = seed, epoch, positions

    def __len__(self) -> int:
        """Return B."""
        return len(self._positions)

    def words(self, stream: Stream, per_sample: int) -> Words:
        """Return random words [B, per_sample]; `per_sample` is a multiple of 4 and the same in every call for a stream."""
        first, last = int(self._positions.min()), int(self._positions.max())
        generator = _generator(self._seed, self._epoch, stream, counter=first * (per_sample // _BLOCK))
        words = generator.random_raw((last - first + 1) * per_sample).reshape(-1, per_sample)
        return words[self._positions - first]


def below(words: Words, limit: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Map random words to integers in [0, limit)."""
    return (words % np.asarray(limit, dtype=np.uint64)).astype(np.int64)


def uniform(words: Words, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float64]:
    """Map random words to numbers in [low, high), with 53 random bits each."""
    return low + (high - low) * ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)
