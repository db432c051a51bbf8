"""Antialiased resizing, bit-identical to Pillow's: its arithmetic, compiled by Numba where that is installed.

As in Pillow, weights are multiples of 2^-22, and each of the two passes rounds half up. Here a pass weights whole rows, which
suits vector instructions; for the other axis, the image is transposed before and after.

Letters: H row, W column, S side; L bytes of a row; K weights of an output.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

_BITS = 22
_UNIT = float(1 << _BITS)
_HALF = 1 << (_BITS - 1)
_TILE = 8
_TRIED = ((9, 7, 4, 4), (20, 13, 6, 6), (21, 13, 6, 6), (5, 8, 12, 12), (13, 8, 12, 12), (6, 31, 9, 40), (40, 9, 13, 3))
"""Heights and widths before and after, for a comparison with Pillow; some are borderline for the order of the passes."""

Pixels = npt.NDArray[np.uint8]
Rule = Callable[[int, int, int, int], bool]


class Compiled(NamedTuple):
    """The compiled functions, and the rule of the installed Pillow for the order of the passes."""

    transpose: Callable[..., None]
    weigh: Callable[..., None]
    pass_rows: Callable[..., None]
    to_planes: Callable[..., None]
    columns_first: Rule


def write_middle_square(pixels: Pixels, height: int, width: int, out: Pixels) -> bool:
    """Resize an image, and write the first three values of each pixel of its middle square.

    Args:
        pixels: uint8 [H, W, 4], any part of a larger array.
        height: height to resize to, at least S.
        width: width to resize to, at least S.
        out: uint8 [3, S, S] to write.

    Returns:
        Whether it was written: not if Numba is not installed, or Pillow gives other results.
    """
    functions = compiled()
    if functions is None:
        return False
    _write_middle_square(functions, pixels, height, width, out)
    return True


def _write_middle_square(functions: Compiled, pixels: Pixels, height: int, width: int, out: Pixels) -> None:
    words, side = pixels.view(np.uint32)[..., 0], out.shape[-1]
    down, across = (words.shape[0], height, side), (words.shape[1], width, side)
    if functions.columns_first(words.shape[0], words.shape[1], height, width):
        halfway = _pass(functions, np.ascontiguousarray(words), *down)
        functions.to_planes(_pass(functions, _transposed(functions, halfway), *across), out.transpose(0, 2, 1))
    else:
        halfway = _pass(functions, _transposed(functions, words), *across)
        functions.to_planes(_pass(functions, _transposed(functions, halfway), *down), out)


def _transposed(functions: Compiled, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    transposed = np.empty((words.shape[1], words.shape[0]), dtype=np.uint32)
    functions.transpose(words, transposed)
    return transposed


def _pass(functions: Compiled, words: npt.NDArray[np.uint32], source: int, size: int, side: int) -> npt.NDArray[np.uint32]:
    """Resample rows of pixels, and keep the middle ones.

    Args:
        functions: those that are compiled.
        words: uint32 [H, W], contiguous.
        source: H.
        size: number of rows that H are resampled to.
        side: number of those to keep.

    Returns:
        uint32 [S, W].
    """
    if size == source:
        first = round((size - side) / 2)
        return words[first : first + side]
    most = 2 * int(np.ceil(max(source / size, 1))) + 1
    starts, counts = np.empty(side, dtype=np.int64), np.empty(side, dtype=np.int64)
    weights = np.empty((side, most), dtype=np.int32)
    functions.weigh(source, size, round((size - side) / 2), starts, counts, weights)
    found = np.empty((side, words.shape[1]), dtype=np.uint32)
    sums = np.empty(4 * words.shape[1], dtype=np.int32)
    functions.pass_rows(words.view(np.uint8), found.view(np.uint8), starts, counts, weights, sums)
    return found


def _transpose(source: Any, target: Any) -> None:
    """Set `target` [W, H] to `source` [H, W], in tiles that stay in the cache."""
    height, width = source.shape
    rows, columns = height - height % _TILE, width - width % _TILE
    for left in range(0, columns, _TILE):
        for top in range(0, rows, _TILE):
            for column in range(left, left + _TILE):
                for row in range(top, top + _TILE):
                    target[column, row] = source[row, column]
    for column in range(width):
        for row in range(rows if column < columns else 0, height):
            target[column, row] = source[row, column]


def _weigh(source: int, size: int, first: int, starts: Any, counts: Any, weights: Any) -> None:
    """Compute the inputs of each output, and their weights [S, K]: a triangle as wide as two outputs or, if wider, two inputs."""
    scale = source / size
    reach = max(scale, 1.0)
    for output in range(len(starts)):
        centre = (first + output + 0.5) * scale
        start, end = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), source)
        total = 0.0
        for number in range(start, end):
            total += max(1.0 - abs((number - centre + 0.5) * (1.0 / reach)), 0.0)
        for number in range(start, end):
            weight = max(1.0 - abs((number - centre + 0.5) * (1.0 / reach)), 0.0)
            weights[output, number - start] = int(0.5 + weight / total * _UNIT)
        starts[output], counts[output] = start, end - start


def _pass_rows(source: Any, target: Any, starts: Any, counts: Any, weights: Any, sums: Any) -> None:
    """Set each row of `target` [S, L] to the weighted sum of some rows of `source` [H, L]; `sums` [L] is scratch memory."""
    for output in range(target.shape[0]):
        for at in range(target.shape[1]):
            sums[at] = _HALF
        for number in range(counts[output]):
            weight, row = weights[output, number], source[starts[output] + number]
            for at in range(target.shape[1]):
                sums[at] += np.int32(row[at]) * weight
        for at in range(target.shape[1]):
            target[output, at] = sums[at] >> _BITS


def _to_planes(words: Any, planes: Any) -> None:
    """Split pixels [S, S] of four bytes, the lowest one first, into planes of the first three, [3, S, S]."""
    for row in range(words.shape[0]):
        for column in range(words.shape[1]):
            word = words[row, column]
            planes[0, row, column] = word & 255
            planes[1, row, column] = (word >> 8) & 255
            planes[2, row, column] = (word >> 16) & 255


@functools.cache
def compiled() -> Compiled | None:
    """Compile the functions, which takes about a second, and find the rule that reproduces Pillow's pixels."""
    try:
        from numba import njit
    except ImportError:
        log.info("resizing by Pillow; pip install 'spikedistill[images]' makes that four times as fast, with the same pixels")
        return None
    compile_ = njit(nogil=True)
    functions = compile_(_transpose), compile_(_weigh), compile_(_pass_rows), compile_(_to_planes)
    for rule in (_since_pillow_13, _before_pillow_13):
        found = Compiled(*functions, rule)
        if all(_is_same(found, *sizes) for sizes in _TRIED):
            return found
    log.info("images are resized by Pillow: its version gives other pixels than the compiled functions")
    return None


def _since_pillow_13(source_height: int, source_width: int, height: int, width: int) -> bool:
    """Return whether columns are resampled first: where they get shorter by more than twice as much as rows do."""
    return source_height > height and source_height - height > 2 * (source_width - width)


def _before_pillow_13(source_height: int, source_width: int, height: int, width: int) -> bool:
    return False


def _is_same(functions: Compiled, source_height: int, source_width: int, height: int, width: int) -> bool:
    """Return whether random pixels are resized to the same bits as by Pillow."""
    from PIL import Image

    words = np.random.Philox(key=[0, 0]).random_raw(source_height * source_width).astype(np.uint32)
    pixels = words.view(np.uint8).reshape(source_height, source_width, 4)
    side = min(height, width)
    top, left = (round((length - side) / 2) for length in (height, width))
    expected = np.asarray(Image.fromarray(pixels[..., :3].copy()).resize((width, height), Image.Resampling.BILINEAR))
    found = np.empty((3, side, side), dtype=np.uint8)
    _write_middle_square(functions, pixels, height, width, found)
    return np.array_equal(found.transpose(1, 2, 0), expected[top : top + side, left : left + side])
