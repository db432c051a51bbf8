"""Sources of the samples of a batch: rows of a memory-mapped array, or files to decode; what is not in memory is read ahead.

Letters: B batch, S side.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spikedistill.cpus import own_cpus
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.augment import BOX_WORDS, ResizedCrop, resized_crop_boxes
from spikedistill.data.loading.prefetch import AHEAD
from spikedistill.data.loading.rng import SampleRng, Stream
from spikedistill.data.loading.streaming.read_ahead import BytesAhead, RowsAhead

_MOST_PER_TASK = 8  # images that a thread decodes in a row: boxes are drawn for all of them at once
_TASKS_PER_THREAD = 4  # of a batch, so that no thread waits long for the last one


def indexable(samples: torch.Tensor) -> torch.Tensor:
    """Convert uint16, for which torch has few operations, to int32; return other types unchanged."""
    return samples.to(torch.int32) if samples.dtype == torch.uint16 else samples


class _Ring:
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
        self._ring = _Ring((batch_size, *samples.shape[1:]), dtype, device)

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


class FileSource:
    """Samples decoded from files by several threads; decoders release the GIL."""

    def __init__(
        self,
        files: ImageFiles,
        batch_size: int,
        device: torch.device,
        side: int,
        pool: ThreadPoolExecutor,
        ahead: BytesAhead | None = None,
        *,
        fast: bool = False,
    ) -> None:
        self._ahead = ahead
        self._files, self._pool, self._side, self._fast = files, pool, side, fast
        self._batch_size, self._device = batch_size, device
        self._ring: _Ring | None = None

    def take(self, rows: npt.NDArray[np.int64], crop: ResizedCrop | None, rng: SampleRng) -> torch.Tensor:
        """Return middle squares, or random resized crops, uint8 [B, 3, S, S] on the device."""
        side = self._files.shape[-1] if crop is None else self._side
        if self._ring is None:
            self._ring = _Ring((self._batch_size, 3, side, side), torch.uint8, self._device)
        buffer = self._ring.next(len(rows))
        target = buffer.numpy()
        contents = self._ahead.take() if self._ahead is not None else None
        words = None if crop is None else rng.words(Stream.RESIZED_CROP, BOX_WORDS)
        per_task = max(1, min(_MOST_PER_TASK, len(rows) // (_TASKS_PER_THREAD * own_cpus())))

        def decode(first: int) -> None:
            part = slice(first, first + per_task)
            some = rows[part].tolist()
            read = contents[part] if contents is not None else map(self._files.content, some)
            images = [self._files.encoded(row, content, fast=self._fast) for row, content in zip(some, read, strict=True)]
            if crop is None or words is None:
                for position, image in enumerate(images, first):
                    target[position] = image.middle_square(side)
                return
            heights, widths = np.array([(image.height, image.width) for image in images]).T
            boxes = resized_crop_boxes(crop, words[part], heights, widths).tolist()
            for position, (image, box) in enumerate(zip(images, boxes, strict=True), first):
                target[position] = image.resized_box(box, side)

        list(self._pool.map(decode, range(0, len(rows), per_task)))
        return self._ring.send(buffer)
