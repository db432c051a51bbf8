"""Batches for training and evaluation. The order depends on (seed, epoch) alone, never on the number of ranks.

Letters: T step or frame, B batch, C channel, H, W.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from spikedistill.data.augment import Augment, augment_batch, draw
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError

_ORDER_STREAM = 1


class Loader:
    """One split of a prepared dataset, held on the device as unsigned integers and served in batches.

    Training (`shuffle`): batch k of an epoch is positions [k * batch_size, (k + 1) * batch_size) of a permutation, and
    each rank takes an equal, contiguous part of it; what does not fill a batch is left out of that epoch. Evaluation: batch
    k is samples [k * batch_size, (k + 1) * batch_size), and rank r takes batches r, r + world_size, …: every sample once, no
    padding, and in the same company whatever the number of ranks.
    """

    def __init__(  # noqa: PLR0913 - a dataset, a recipe and a rank
        self,
        store: SampleStore,
        split: str,
        *,
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        shuffle: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        """Load a split.

        Args:
            store: the prepared dataset.
            split: name of the split.
            batch_size: in samples; of a training batch over all ranks, of an evaluation batch on one of them.
            seed: of the order and the augmentation.
            augment: random changes; None: none.
            shuffle: training order; else evaluation order.
            rank: this process's number.
            world_size: number of processes.
            device: where samples live and batches appear.

        Raises:
            ConfigError: if a training batch cannot be shared equally by the ranks, or exceeds the split.
        """
        rows = store.split(split)
        if shuffle and batch_size % world_size:
            raise ConfigError(f"train.batch_size {batch_size} cannot be shared equally by {world_size} ranks; change one")
        if shuffle and batch_size > len(rows):
            raise ConfigError(f"train.batch_size {batch_size} exceeds the {len(rows)} samples of split {split!r}")
        self._augment = augment if augment is not None else Augment()
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._shuffle, self.batch_size = shuffle, batch_size
        self._device = torch.device(device)
        samples = store.samples[rows]
        if samples.dtype == np.uint16:
            samples = samples.astype(np.int32)
        self._samples = torch.from_numpy(np.ascontiguousarray(samples)).to(self._device)
        self._labels = torch.from_numpy(store.labels[rows]).to(self._device)
        self._is_frames = store.kind == "frames"
        self._mean, self._std = self._channel(store.mean), self._channel(store.std)

    def _channel(self, values: tuple[float, ...] | None) -> torch.Tensor | None:
        return None if values is None else torch.tensor(values, device=self._device).reshape(1, -1, 1, 1)

    @property
    def num_samples(self) -> int:
        """Samples in the split, over all ranks."""
        return len(self._labels)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that `epoch` yields on this rank."""
        if self._shuffle:
            return self.num_samples // self.batch_size
        return len(range(self._rank, -(-self.num_samples // self.batch_size), self._world_size))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of an epoch.

        Args:
            epoch: number of the epoch, from 0.
            start_step: first step to yield; those before it are skipped without work.

        Yields:
            Inputs, float32: images [B, C, H, W], normalised, or frames [T, B, 2, H, W], counts; and labels, int64 [B].
        """
        order = self._order(epoch)
        for step in range(start_step, self.steps_per_epoch):
            positions = self._positions(step)
            index = torch.from_numpy(order[positions]).to(self._device)
            samples = self._samples.index_select(0, index)
            if not self._augment.is_identity:
                samples = augment_batch(samples, self._augment, draw(self._seed, epoch, positions))
            yield self._to_inputs(samples), self._labels.index_select(0, index)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if not self._shuffle:
            return np.arange(self.num_samples, dtype=np.int64)
        words = np.random.Philox(key=[self._seed, (epoch << 8) | _ORDER_STREAM]).random_raw(self.num_samples)
        return np.argsort(words, kind="stable")

    def _positions(self, step: int) -> npt.NDArray[np.int64]:
        if self._shuffle:
            share = self.batch_size // self._world_size
            start = step * self.batch_size + self._rank * share
            return np.arange(start, start + share)
        start = (self._rank + step * self._world_size) * self.batch_size
        return np.arange(start, min(start + self.batch_size, self.num_samples))

    def _to_inputs(self, samples: torch.Tensor) -> torch.Tensor:
        if self._is_frames:
            return samples.transpose(0, 1).to(torch.float32)
        assert self._mean is not None and self._std is not None
        return (samples.to(torch.float32) / 255 - self._mean) / self._std
