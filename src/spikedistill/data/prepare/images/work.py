"""What is done with each image of a dataset, in blocks that an interrupted run need not do again. Numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.files import state_of
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.formats.isal_zlib import crc32
from spikedistill.data.prepare.blocks.fill import fill, in_blocks
from spikedistill.data.prepare.blocks.target import Target, Writer
from spikedistill.data.prepare.blocks.work import Share, digest_of
from spikedistill.data.prepare.workers import shared_zeros
from spikedistill.errors import DataError

FACTS = np.dtype([("sum", "u8"), ("size", "u4")])
"""Of each image: size and CRC-32 of its file in one number, see `ImageFiles.twins`; and the number of bytes written for it."""
PER_BLOCK = 64
_MAX_NAMED = 50  # bad images in one message

Convert = Callable[[int, bytes], npt.NDArray[Any] | bytes]
"""Makes what is written for an image from its row and the bytes of its file; raises DataError if it cannot be used."""


class ImageWork:
    """The conversion of all images of a dataset."""

    def __init__(
        self,
        files: ImageFiles,
        convert: Convert,
        what: str,
        recipe: Mapping[str, Any],
        bounds: Sequence[int] | None = None,
    ) -> None:
        """Describe it.

        Args:
            files: the images.
            convert: makes what is written for one.
            what: name of finished images, such as "images decoded".
            recipe: what the images have in common, in JSON.
            bounds: of the blocks; None: of up to 64 images.
        """
        self.what, self.recipe = what, recipe
        self.bounds = in_blocks(len(files), PER_BLOCK) if bounds is None else bounds
        self.facts = shared_zeros(len(files), FACTS)
        self._files, self._convert = files, convert

    def sources(self, rows: range) -> int:
        """Return a digest of names, sizes and times of the files of some images, and of their places in archives."""
        entries = [self._files.row(row) for row in rows]
        states = {path: state_of(path) for path in {self._files.path(entry) for entry in entries}}
        return digest_of(
            f"{states[self._files.path(entry)]} {entry.get('archive')} {entry.get('offset')} {entry.get('size')} {entry['id']}"
            for entry in entries
        )

    def convert(self, rows: range, writer: Writer, count: Callable[[], None]) -> list[str]:
        """Convert some images; return what is wrong with those that cannot be used."""
        problems = []
        for row in rows:
            try:
                content = self._files.content(row)
                made = self._convert(row, content)
            except DataError as err:
                problems.append(str(err))
                continue
            writer.write(row, made)
            self.facts[row] = len(content) << 32 | crc32(content), len(made) if isinstance(made, bytes) else made.nbytes
            count()
        return problems


def convert_all(
    work: ImageWork, target: Target, *, folder: Path, num_workers: int, share: Share | None = None
) -> npt.NDArray[np.uint64]:
    """Convert all images of a dataset, or those that an interrupted run has left.

    Args:
        work: what is done.
        target: what is written to.
        folder: for the journals, which survives an interruption.
        num_workers: number of processes.
        share: the part of the other ranks of the job.

    Returns:
        Size and CRC-32 of each file in one number; see `ImageFiles.twins`.

    Raises:
        DataError: naming the images that cannot be used, after all were tried; or at once if the disk is full, for instance.
    """
    bad = fill(work, target, work.facts, folder=folder, num_workers=num_workers, share=share)
    if bad:
        count = len(work.facts)
        more = f"\n  and {len(bad) - _MAX_NAMED} more" if len(bad) > _MAX_NAMED else ""
        raise DataError(f"{len(bad)} of {count} images cannot be used:\n  " + "\n  ".join(bad[:_MAX_NAMED]) + more)
    return np.ascontiguousarray(work.facts["sum"])
