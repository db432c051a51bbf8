"""Sources of the samples of a batch: rows of a memory-mapped array, or files to decode; what is not in memory is read ahead.

Letters: B batch, S side.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spikedistill.cpus import own_cpus
from spikedistill.data.formats.decoding.encoded import EncodedImage
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.augment import BOX_WORDS, ResizedCrop, resized_crop_boxes
from spikedistill.data.loading.prefetch import AHEAD
from spikedistill.data.loading.rng import SampleRng, Stream, Words
from spikedistill.data.loading.streaming.read_ahead import BytesAhead, RowsAhead

_MOST_PER_TASK = 8  # images that a thread decodes in a row: boxes are drawn for all of them at once
_DECODED_AHEAD = 1  # batches whose decoding starts before the requested one is complete
_TASKS_PER_THREAD = 4  # of a batch, so that no thread waits long for the last one


def indexable(samples: torch.Tensor) -> torch.Tensor:
    """Convert uint16, for which torch has few operations, to int32; return other types unchanged."""
    return samples.to(torch.int32) if samples.dtype == torch.uint16 else samples


class Ring:
    """Host buffers used in turn: one is with the consumer, the others are being filled or copied. Pinned for a GPU."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._device = device
        self._pinned = device.type == "cuda"
        self._buffers = [torch.empty(shape, dtype=dtype, pin_memory=self._pinned) for _ in range(AHEAD + 1)]
        self._sent: list[torch.cuda.Event | None] = [None] * len(self._buffers)
        self._turn = 0

    def next(self, count: int) -> torch.Tensor:
        """Return the first `count` rows of the next buffer, after the copy out of it has finished."""
        self._turn = (self._turn + 1) % len(self._buffers)
        sent = self._sent[self._turn]
        if sent is not None:
            sent.synchronize()
        return self._buffers[self._turn][:count]

    def send(self, buffer: torch.Tensor) -> torch.Tensor:
        """Copy a buffer that `next` returned to the device."""
        if not self._pinned:
            return buffer
        on_device = buffer.to(self._device, non_blocking=True)
        self._sent[self._turn] = torch.cuda.current_stream(self._device).record_event()
        return on_device


class RowSource:
    """Samples in a memory-mapped array: copied from the map, or by `ahead`, which knows the rows of each step."""

    def __init__(self, samples: npt.NDArray[Any], batch_size: int, device: torch.device, ahead: RowsAhead | None = None) -> None:
        self._ahead = ahead
        self._flat = np.asarray(samples).reshape(len(samples), -1)
        dtype = torch.from_numpy(samples[:1].copy()).dtype
        self._ring = Ring((batch_size, *samples.shape[1:]), dtype, device)

    def gather(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Copy some rows to a buffer on the host."""
        buffer = self._ring.next(len(rows))
        out = buffer.numpy().reshape(len(rows), -1)
        if self._ahead is None:
            np.take(self._flat, rows, axis=0, out=out, mode="clip")
        else:
            self._ahead.take(out)
        return buffer

    def take(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Copy some rows to the device."""
        return self._ring.send(self.gather(rows))


@contextlib.contextmanager
def decoders() -> Iterator[ThreadPoolExecutor]:
    """Open as many threads as this rank has CPUs; at the end, tasks that have not started are cancelled."""
    pool = ThreadPoolExecutor(own_cpus(), thread_name_prefix="decode")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class FileSource:
    """Samples decoded from files by several threads, which start on a batch while the previous one is used."""

    def __init__(
        self,
        files: ImageFiles,
        batches: Iterable[tuple[npt.NDArray[np.int64], SampleRng]],
        ring: Ring,
        crop: ResizedCrop | None,
        pool: ThreadPoolExecutor,
        ahead: BytesAhead | None = None,
        *,
        fast: bool = False,
    ) -> None:
        """Plan the decoding; nothing is decoded yet.

        Args:
            files: the images.
            batches: rows and random words of each batch, in the order in which they will be taken.
            ring: buffers uint8 [B, 3, S, S], three or more.
            crop: makes random resized crops; None: middle squares.
            pool: the threads; decoders release the GIL.
            ahead: reads the files of each batch ahead; None: the threads read them.
            fast: as for `EncodedImage`.
        """
        self._files, self._batches, self._ring, self._crop = files, iter(batches), ring, crop
        self._pool, self._ahead, self._fast = pool, ahead, fast
        self._started: deque[tuple[torch.Tensor, list[Future[None]]]] = deque()

    def take(self) -> torch.Tensor:
        """Return the next batch on the device, uint8 [B, 3, S, S]."""
        for rows, rng in itertools.islice(self._batches, _DECODED_AHEAD + 1 - len(self._started)):
            self._started.append(self._start(rows, rng))
        buffer, tasks = self._started.popleft()
        for task in tasks:
            task.result()
        return self._ring.send(buffer)

    def _start(self, rows: npt.NDArray[np.int64], rng: SampleRng) -> tuple[torch.Tensor, list[Future[None]]]:
        """Distribute the images of a batch over the threads; return the buffer that they fill, and the tasks."""
        buffer = self._ring.next(len(rows))
        target = buffer.numpy()
        contents = self._ahead.take() if self._ahead is not None else None
        words = None if self._crop is None else rng.words(Stream.RESIZED_CROP, BOX_WORDS)

        def decode(part: slice) -> None:
            some = rows[part].tolist()
            read = contents[part] if contents is not None else map(self._files.content, some)
            images = [self._files.encoded(row, content, fast=self._fast) for row, content in zip(some, read, strict=True)]
            self._crop_each(images, None if words is None else words[part], target[part])

        per_task = max(1, min(_MOST_PER_TASK, len(rows) // (_TASKS_PER_THREAD * own_cpus())))
        parts = (slice(first, first + per_task) for first in range(0, len(rows), per_task))
        return buffer, [self._pool.submit(decode, part) for part in parts]

    def _crop_each(self, images: Sequence[EncodedImage], words: Words | None, target: npt.NDArray[np.uint8]) -> None:
        """Decode some images into `target`."""
        side = target.shape[-1]
        if self._crop is None or words is None:
            for position, image in enumerate(images):
                image.middle_square(side, target[position])
            return
        heights, widths = np.array([(image.height, image.width) for image in images]).T
        boxes = resized_crop_boxes(self._crop, words, heights, widths).tolist()
        for position, (image, box) in enumerate(zip(images, boxes, strict=True)):
            image.resized_box(box, side, target[position])
