"""Batches for training and evaluation. The order depends on (seed, epoch) alone, never on the number of ranks.

A thread makes batches ahead of their consumer: it copies rows out of the memory-mapped array (or decodes files), sends them to
the device on a CUDA stream of its own, and augments and converts them there. A split that fits is kept on the device; one that
the page cache does not hold is read ahead by more threads, see `streaming`.

Letters: T step or frame, B batch, C channel, H, W.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.augment import BOX_WORDS, Augment, augment_batch, erase, resized_crop_boxes
from spikedistill.data.loading.inputs import STATISTICS, InputConfig, crop_images, encode_frames, normalize
from spikedistill.data.loading.mixing import Mixing, Mixture, draw_mixture, mix, with_predecessor
from spikedistill.data.loading.prefetch import prefetched
from spikedistill.data.loading.resample import resized_crop, send
from spikedistill.data.loading.rng import SampleRng, Stream, epoch_permutation
from spikedistill.data.loading.sample_source import FileSource, Ring, RowSource, decoders, indexable
from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.loading.streaming.order import ChunkedOrder, ChunkedShuffle
from spikedistill.data.loading.streaming.read_ahead import bytes_ahead, rows_ahead
from spikedistill.data.loading.streaming.reads import Integers
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError

Batch = tuple[torch.Tensor, torch.Tensor]

RESIDENT_BYTES = 256 << 20  # maximum size of a split that is kept in the memory of the CPU
RESIDENT_SHARE = 0.25  # maximum share of the GPU's free memory that a split may take
CHUNK = 256  # samples copied at a time, so that the host needs little memory


class Loader:
    """One split of a prepared dataset, served in batches.

    Training (`shuffle`): batch k of an epoch is positions [k * batch_size, (k + 1) * batch_size) of a permutation, and each rank
    takes an equal, contiguous part of it; an incomplete last batch is dropped. Evaluation: batch k is samples
    [k * batch_size, (k + 1) * batch_size), and rank r takes batches r, r + world_size, …: every sample once, without padding, and
    in the same batch for any number of ranks.
    """

    def __init__(  # noqa: PLR0913 - a dataset, a recipe and a rank
        self,
        store: SampleStore,
        split: str,
        *,
        batch_size: int,
        seed: int = 0,
        inputs: InputConfig | None = None,
        augment: Augment | None = None,
        mixing: Mixing | None = None,
        shuffle: bool = False,
        chunked: ChunkedShuffle | None = None,
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
            inputs: how samples become inputs; None: the defaults.
            augment: random changes; None: no changes.
            mixing: mixup and CutMix of training batches; None: neither.
            shuffle: whether to serve training batches; evaluation batches otherwise.
            chunked: how training batches are shuffled in chunks; None: each sample by itself.
            rank: number of this process.
            world_size: number of processes.
            device: device of the batches.

        Raises:
            ConfigError: if a training batch cannot be shared equally by the ranks, or exceeds the split.
        """
        rows = store.split(split)
        if shuffle and batch_size % world_size:
            raise ConfigError(f"train.batch_size {batch_size} cannot be shared equally by {world_size} ranks; change one")
        if shuffle and batch_size > len(rows):
            raise ConfigError(f"train.batch_size {batch_size} exceeds the {len(rows)} samples of split {split!r}")
        self._inputs = inputs if inputs is not None else InputConfig()
        self._augment = augment if augment is not None else Augment()
        self._mixing = mixing
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._shuffle, self.batch_size = shuffle, batch_size
        self._device = _numbered(torch.device(device))
        self._rows, self._labels = rows, store.labels[rows]
        self._samples = store.samples
        self._is_frames = store.kind == "frames"
        self._chunks = ChunkedOrder(chunked, rows, seed, batch_size) if chunked is not None and shuffle else None
        self._resident = self._keep() if self._fits() else None
        self._file = self._open_file()
        self._mean, self._std = self._statistics(store)

    def _statistics(self, store: SampleStore) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of images; they are not used for frames."""
        mean, std = STATISTICS.get(self._inputs.normalize, (store.mean or (), store.std or ()))
        shape = (1, -1, 1, 1)
        return torch.tensor(mean, device=self._device).reshape(shape), torch.tensor(std, device=self._device).reshape(shape)

    def _fits(self) -> bool:
        if isinstance(self._samples, ImageFiles):
            return False
        limit = RESIDENT_BYTES
        if self._device.type == "cuda":
            limit = int(RESIDENT_SHARE * torch.cuda.mem_get_info(self._device)[0])
        return len(self._rows) * self._samples[0].size * self._kept_dtype.itemsize <= limit

    @property
    def _kept_dtype(self) -> torch.dtype:
        """Type of the samples that are kept; counts of two bytes take four."""
        assert not isinstance(self._samples, ImageFiles)
        return indexable(torch.from_numpy(self._samples[:1].copy())).dtype

    def _open_file(self) -> ArrayFile | None:
        if self._resident is not None or isinstance(self._samples, ImageFiles):
            return None
        return ArrayFile.of(self._samples)

    def _keep(self) -> torch.Tensor:
        assert not isinstance(self._samples, ImageFiles)
        kept = torch.empty((len(self._rows), *self._samples.shape[1:]), dtype=self._kept_dtype, device=self._device)
        for start in range(0, len(self._rows), CHUNK):
            part = self._samples[self._rows[start : start + CHUNK]]
            kept[start : start + len(part)] = indexable(torch.from_numpy(part).to(self._device))
        return kept

    @property
    def num_samples(self) -> int:
        """Number of samples in the split, over all ranks."""
        return len(self._rows)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that `epoch` yields on this rank."""
        if self._shuffle:
            return self.num_samples // self.batch_size
        return len(range(self._rank, -(-self.num_samples // self.batch_size), self._world_size))

    @property
    def _local_batch(self) -> int:
        """Number of samples in a full batch on this rank."""
        return self.batch_size // self._world_size if self._shuffle else self.batch_size

    @property
    def _most_loaded(self) -> int:
        """Number of samples that a batch on this rank is made from, at most."""
        return self._local_batch + self._loads_predecessor

    @functools.cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        """The stream of all epochs: the allocator keeps free memory for each stream."""
        return torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    @property
    def _loads_predecessor(self) -> bool:
        """True if samples are mixed with one of another rank: the sample before the part of this rank in the global batch."""
        return self._mixing is not None and self._world_size > 1

    def share(self, epoch: int, step: int) -> float:
        """Return the share that samples have in the mixed batch of a step; 1 if it is not mixed."""
        return self._mixture(epoch, step).share

    def _mixture(self, epoch: int, step: int) -> Mixture:
        if self._mixing is None:
            return Mixture()
        height, width = self._inputs.size(*self._samples.shape[-2:])
        return draw_mixture(self._mixing, self._seed, epoch, step, height, width)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: number of the epoch, from 0.
            start_step: first step to yield; earlier ones are skipped without work, and later ones are not affected.

        Yields:
            Inputs, float32: images [B, C, H, W], normalised, or frames [T, B, 2, H, W]; and labels, int64 [B], or with mixing
            [2, B]: those of the samples, and those of what is mixed into them.
        """
        order = self._order(epoch)
        stream = self._stream
        if stream:
            stream.wait_stream(torch.cuda.current_stream(self._device))  # which may still be filling `_resident`

        def begin() -> None:
            if stream:  # a thread begins with GPU 0, and would open a context there
                torch.cuda.set_device(self._device)

        def make(step: int) -> tuple[Batch, torch.cuda.Event | None]:
            with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
                batch = self._make(source, epoch, order, step)
                return batch, stream.record_event() if stream else None

        steps = range(start_step, self.steps_per_epoch)
        with self._open_source(epoch, order, steps) as source, contextlib.closing(prefetched(make, steps, begin)) as batches:
            for batch, made in batches:
                if made is not None:
                    current = torch.cuda.current_stream(self._device)
                    current.wait_event(made)
                    for tensor in batch:
                        tensor.record_stream(current)
                yield batch

    def stored(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch as they are stored: unsigned integers on the host.

        A batch is overwritten once the next one is taken: copy what you keep.

        Raises:
            ConfigError: if the dataset has no array.
        """
        if isinstance(self._samples, ImageFiles):
            raise ConfigError("images in files have no array to serve batches of; prepare them with storage: array")
        return self._stored(self._order(epoch), range(start_step, self.steps_per_epoch))

    def _stored(self, order: npt.NDArray[np.int64], steps: range) -> Iterator[Batch]:
        assert not isinstance(self._samples, ImageFiles)
        with rows_ahead(self._file, *self._to_read([order[self._positions(step)] for step in steps])) as ahead:
            rows = RowSource(self._samples, self._local_batch, torch.device("cpu"), ahead)

            def make(step: int) -> Batch:
                index = order[self._positions(step)]
                return rows.gather(self._rows[index]), torch.from_numpy(self._labels[index])

            with contextlib.closing(prefetched(make, steps)) as batches:
                yield from batches

    @contextlib.contextmanager
    def _open_source(self, epoch: int, order: npt.NDArray[np.int64], steps: range) -> Iterator[RowSource | FileSource | None]:
        """Open the source of samples that are not on the device; it serves some steps of one epoch, and one thread."""
        if self._resident is not None:
            yield None
            return
        reads = self._to_read([order[self._loaded(step)] for step in steps])
        if isinstance(self._samples, ImageFiles):
            crop, fast = self._augment.random_resized_crop, self._inputs.decode == "fast"
            side = self._samples.shape[-1] if crop is None else self._side
            ring = Ring((self._most_loaded, 3, side, side), torch.uint8, self._device)
            batches = ((self._rows[order[at]], SampleRng(self._seed, epoch, at)) for at in map(self._loaded, steps))
            with decoders() as pool, bytes_ahead(self._samples, *reads) as ahead:
                yield FileSource(self._samples, batches, ring, crop, pool, ahead, fast=fast)
        else:
            with rows_ahead(self._file, *reads) as ahead:
                yield RowSource(self._samples, self._most_loaded, self._device, ahead)

    def _to_read(self, indices: Sequence[npt.NDArray[np.int64]]) -> tuple[list[Integers], list[Integers] | None]:
        """Return the rows of some steps, and their blocks if these are shuffled in chunks."""
        blocks = [self._chunks.blocks[index] for index in indices] if self._chunks else None
        return [self._rows[index] for index in indices], blocks

    @property
    def _side(self) -> int:
        """Side of a random resized crop in pixels."""
        height, width = self._samples.shape[-2:]
        return self._inputs.size(height, width)[0]

    def _make(self, source: RowSource | FileSource | None, epoch: int, order: npt.NDArray[np.int64], step: int) -> Batch:
        inputs, labels = self._load(source, epoch, order, self._loaded(step))
        if self._mixing is None:
            return inputs, labels
        return mix(inputs, labels, self._mixture(epoch, step), led=self._loads_predecessor)

    def _load(
        self, source: RowSource | FileSource | None, epoch: int, order: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]
    ) -> Batch:
        """Return the samples at some positions of an epoch, augmented."""
        index = order[positions]
        rng = SampleRng(self._seed, epoch, positions)
        samples = self._take(source, index, rng)
        samples = augment_batch(samples, self._augment, rng)
        inputs = _steps_first(samples) if self._is_frames else normalize(samples, self._mean, self._std)
        if self._augment.erase:
            inputs = erase(inputs, self._augment.erase, rng)
        return inputs, send(self._labels[index], self._device)

    def _take(self, source: RowSource | FileSource | None, index: npt.NDArray[np.int64], rng: SampleRng) -> torch.Tensor:
        """Return samples on the device in the size of an input."""
        crop = self._augment.random_resized_crop
        if isinstance(source, FileSource):
            samples = source.take()
        elif source is not None:
            samples = indexable(source.take(self._rows[index]))
        else:
            assert self._resident is not None
            samples = self._resident.index_select(0, send(index, self._device))
        if self._is_frames:
            return encode_frames(samples, self._inputs)
        if crop is None:
            return crop_images(samples, self._inputs)
        if isinstance(source, FileSource):
            return samples
        height, width = samples.shape[-2:]
        boxes = resized_crop_boxes(crop, rng.words(Stream.RESIZED_CROP, BOX_WORDS), height, width)
        return resized_crop(samples, boxes, self._side)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if not self._shuffle:
            return np.arange(self.num_samples, dtype=np.int64)
        if self._chunks is not None:
            return self._chunks.of(epoch)
        return epoch_permutation(self._seed, epoch, self.num_samples)

    def _loaded(self, step: int) -> npt.NDArray[np.int64]:
        """Return the positions that a batch of this rank is made from."""
        positions = self._positions(step)
        return with_predecessor(positions, self.batch_size) if self._loads_predecessor else positions

    def _positions(self, step: int) -> npt.NDArray[np.int64]:
        if self._shuffle:
            start = step * self.batch_size + self._rank * self._local_batch
            return np.arange(start, start + self._local_batch)
        start = (self._rank + step * self._world_size) * self.batch_size
        return np.arange(start, min(start + self.batch_size, self.num_samples))


def _numbered(device: torch.device) -> torch.device:
    """Return a device with its number; "cuda" is the current GPU of this thread."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _steps_first(frames: torch.Tensor) -> torch.Tensor:
    """Convert frames [B, T, 2, H, W] of any type to contiguous floats [T, B, 2, H, W]."""
    frames = frames.transpose(0, 1)
    return torch.empty(frames.shape, dtype=torch.float32, device=frames.device).copy_(frames)
