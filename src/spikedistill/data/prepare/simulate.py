"""A fixed-point simulation of an event camera that looks at a moving picture. Numpy only.

Integer arithmetic on raw words of a counter-based generator makes recordings identical to the byte on every machine.
Units: log intensity in 1/4096, positions in 1/16 pixel, time in microseconds.
"""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.events import Events
from spikedistill.data.prepare.blocks.progress import Progress
from spikedistill.data.prepare.workers import run_workers

SENSOR = 34
STEP_US = 2_000
LOOP_US = 150_000
NUM_LOOPS = 2
AMPLITUDE_16TH = 32
REFRACTORY_US = 1_000
LEVELS = 4_096
BACKGROUND = decimal.Decimal("0.25")
THRESHOLD = 1_024
THRESHOLD_SPREAD = 123
NOISE_HZ = 1
DIGIT_SIZE = 24
MAX_DIGIT_VALUE = 16
BATCH = 128

Int64 = npt.NDArray[np.int64]


def simulate_digits(images: npt.NDArray[np.integer], first: int) -> list[Events]:
    """Record a batch of scikit-learn's digits, enlarged to 24 x 24 pixels.

    Args:
        images: [B, 8, 8], values 0..16, from `load_digits`.
        first: as in `simulate`.

    Returns:
        B recordings, each sorted by time.
    """
    return simulate(np.stack([_enlarged(image) for image in images]), first)


def simulate(pictures: npt.NDArray[np.integer], first: int) -> list[Events]:
    """Record a batch of pictures for 300 ms with a simulated camera of 34 x 34 pixels.

    Args:
        pictures: [B, H, W], intensities 0..4096, no larger than 34 x 34.
        first: number of the first picture in the dataset; the random numbers of a recording depend on its number alone.

    Returns:
        B recordings, each sorted by time.
    """
    canvas = np.stack([_place(picture, first + row) for row, picture in enumerate(pictures)])
    on, off = _thresholds()
    level = _log_intensity(canvas, 0)
    reference = level.copy()
    last = np.full_like(level, -REFRACTORY_US)
    found: list[tuple[Int64, ...]] = []
    for step in range(1, NUM_LOOPS * LOOP_US // STEP_US + 1):
        before, level = level, _log_intensity(canvas, step)
        found += _crossings(before, level, reference, last, step, on, +1)
        found += _crossings(before, level, reference, last, step, off, -1)
    row, t, pixel, p = (np.concatenate(column) for column in zip(*found, strict=True))
    return [_with_noise(first + b, t[row == b], pixel[row == b], p[row == b]) for b in range(len(pictures))]


def record(
    pictures: npt.NDArray[np.integer],
    paths: Sequence[Path],
    write: Callable[[Path, Events], None],
    *,
    simulated: Callable[[npt.NDArray[np.integer], int], list[Events]],
    num_workers: int,
) -> None:
    """Write a recording of each picture of a dataset, in parallel processes.

    Args:
        pictures: [N, H, W], as `simulated` takes them.
        paths: N files, whose folders exist.
        write: writes one file.
        simulated: records a batch, given the number of its first picture: `simulate` or `simulate_digits`.
        num_workers: number of processes.
    """
    firsts = range(0, len(paths), BATCH)

    def work(batches: Iterator[int]) -> None:
        for batch in batches:
            part = slice(firsts[batch], firsts[batch] + BATCH)
            for path, events in zip(paths[part], simulated(pictures[part], part.start), strict=True):
                write(path, events)

    progress = Progress("batches of recordings simulated", len(firsts))
    run_workers(work, len(firsts), num_workers=num_workers, watch=progress.show)


def _draw(purpose: int, number: int, count: int) -> Int64:
    raw = np.random.Philox(key=[purpose, number]).random_raw(count)
    return (raw >> np.uint64(33)).astype(np.int64)


def _enlarged(image: npt.NDArray[np.integer]) -> Int64:
    """Enlarge a digit of 8 x 8 pixels, 0..16, to 24 x 24, 0..4096, by integer bilinear interpolation."""
    grid = np.arange(DIGIT_SIZE) * (image.shape[0] - 1)
    low, fraction = grid // (DIGIT_SIZE - 1), grid % (DIGIT_SIZE - 1)
    high = np.minimum(low + 1, image.shape[0] - 1)
    source = image.astype(np.int64) * (LEVELS // MAX_DIGIT_VALUE)
    rows = source[low] * (DIGIT_SIZE - 1 - fraction)[:, None] + source[high] * fraction[:, None]
    return (rows[:, low] * (DIGIT_SIZE - 1 - fraction) + rows[:, high] * fraction) // (DIGIT_SIZE - 1) ** 2


def _place(picture: npt.NDArray[np.integer], number: int) -> Int64:
    """Put a picture into the middle of a canvas with a margin of 4 pixels around the sensor, or up to one pixel off it."""
    height, width = picture.shape
    down, right = _draw(1, number, 2) % 3 - 1
    canvas = np.zeros((SENSOR + 8, SENSOR + 8), dtype=np.int64)
    top, left = (SENSOR + 8 - height) // 2 + down, (SENSOR + 8 - width) // 2 + right
    canvas[top : top + height, left : left + width] = picture
    return canvas


def _position_16th(step: int) -> tuple[int, int]:
    """Return the camera's offset (down, right) after a step; its path is a diamond around the centre."""
    quarter = LOOP_US // 4
    phase, within = divmod(step * STEP_US % LOOP_US, quarter)
    along = AMPLITUDE_16TH * within // quarter
    return [
        (along - AMPLITUDE_16TH, along),
        (along, AMPLITUDE_16TH - along),
        (AMPLITUDE_16TH - along, -along),
        (-along, along - AMPLITUDE_16TH),
    ][min(phase, 3)]


def _log_intensity(canvas: Int64, step: int) -> Int64:
    down, right = (64 + offset for offset in _position_16th(step))
    top, fy = divmod(down, 16)
    left, fx = divmod(right, 16)
    window = canvas[:, top : top + SENSOR + 1, left : left + SENSOR + 1]
    rows = window[:, :-1] * (16 - fy) + window[:, 1:] * fy
    return _log_table()[(rows[:, :, :-1] * (16 - fx) + rows[:, :, 1:] * fx) >> 8]


@functools.cache
def _log_table() -> Int64:
    """Return 4096 * ln(background + i / 4096) for i = 0..4096, rounded; decimal arithmetic is the same on every machine."""
    with decimal.localcontext(decimal.Context(prec=20)):
        exact = [LEVELS * (BACKGROUND + decimal.Decimal(i) / LEVELS).ln() for i in range(LEVELS + 1)]
        return np.array([int(value.to_integral_value(decimal.ROUND_HALF_EVEN)) for value in exact], dtype=np.int64)


@functools.cache
def _thresholds() -> tuple[Int64, Int64]:
    spread = _draw(2, 0, 2 * SENSOR * SENSOR) % (2 * THRESHOLD_SPREAD + 1) - THRESHOLD_SPREAD
    on, off = (THRESHOLD + spread).reshape(2, SENSOR, SENSOR)
    return on, off


def _crossings(
    before: Int64, level: Int64, reference: Int64, last: Int64, step: int, threshold: Int64, sign: int
) -> list[tuple[Int64, ...]]:
    """Return the events of one polarity in one step, at interpolated times; update `reference` and `last` in place."""
    row, y, x = np.nonzero(sign * (level - reference) >= threshold)
    found: list[tuple[Int64, ...]] = []
    start_us = (step - 1) * STEP_US
    while row.size:
        at = row, y, x
        reference[at] += sign * threshold[y, x]
        change = sign * (level[at] - before[at])
        into = np.clip(sign * (reference[at] - before[at]), 0, change)
        t = start_us + STEP_US * into // np.maximum(change, 1)
        fires = t >= last[at] + REFRACTORY_US
        last[row[fires], y[fires], x[fires]] = t[fires]
        polarity = np.full(int(fires.sum()), int(sign > 0), dtype=np.int64)
        found.append((row[fires], t[fires], y[fires] * SENSOR + x[fires], polarity))
        more = sign * (level[at] - reference[at]) >= threshold[y, x]
        row, y, x = row[more], y[more], x[more]
    return found


def _with_noise(number: int, t: Int64, pixel: Int64, p: Int64) -> Events:
    total_us = NUM_LOOPS * LOOP_US
    count = SENSOR * SENSOR * NOISE_HZ * total_us // 1_000_000
    noise = _draw(3, number, 3 * count).reshape(3, count)
    t = np.concatenate([t, noise[0] % total_us])
    pixel = np.concatenate([pixel, noise[1] % (SENSOR * SENSOR)])
    p = np.concatenate([p, noise[2] % 2])
    order = np.lexsort((p, pixel, t))
    return Events(t[order], pixel[order] % SENSOR, pixel[order] // SENSOR, p[order])
