"""Random recordings through SpikingJelly's own integration and ours: `python tests/unit/data/fuzz_integration.py --cases 10000`.

Each case draws sizes, a type of the timestamps and a kind of trouble: ties, gaps, stamps that run backwards, a clock that
wraps, a pixel that never rests. The frames must be the same, of events as a file numbers them too. Cases that SpikingJelly
refuses, for a window without events, do not count; there ours must keep every event of a recording that is in order.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import warnings
from types import ModuleType
from unittest.mock import patch

import numpy as np

import spikedistill.data.prepare.integrate
from spikedistill.data.formats.events import CellEvents, Events
from spikedistill.data.prepare.integrate import count, frame_ranges, integrate

RULES = ("number", "time", "duration")
KINDS = ("spread", "ties", "gaps", "few", "unsorted", "jump back", "stray", "equal", "hot")
UNSORTED = ("unsorted", "jump back", "stray")
HEIGHT, WIDTH = 7, 9
REFUSED = "refused by SpikingJelly"


def spikingjellys_datasets() -> ModuleType:
    """Import SpikingJelly's own functions."""
    return importlib.import_module("spikingjelly.datasets.utils")


def draw(seed: int, rule: str) -> tuple[str, Events, dict[str, int]]:
    """A recording on a sensor of 7 rows and 9 columns, and how to integrate it."""
    random = np.random.default_rng([RULES.index(rule), seed])
    kind = KINDS[int(random.integers(len(KINDS)))]
    most = {"few": 12, "hot": 2000}.get(kind, 400)
    count = int(random.integers(1, most))
    span = {"ties": 20, "equal": 1}.get(kind, int(random.integers(1, 5000)))
    t = np.sort(random.integers(0, span, count)) + int(random.integers(0, 1000))
    if kind == "gaps":
        t[int(random.integers(count)) :] += int(random.integers(0, 20_000))
    elif kind == "unsorted":
        random.shuffle(t[int(random.integers(count)) :])
    elif kind == "jump back":
        t[int(random.integers(count)) :] -= int(t[0])
    elif kind == "stray":
        t[int(random.integers(count))] = 0xFFFFFFFF
    dtype = random.choice(["<u4", ">u4", "<i8"])
    pixels = (1, 1) if kind == "hot" else (WIDTH, HEIGHT)
    x, y = (random.integers(0, side, count).astype("<u4") for side in pixels)
    events = Events(t.astype(dtype), x, y, random.integers(0, 2, count))
    number = int(random.integers(1, max(2, span))) if rule == "duration" else int(random.integers(1, 17))
    if rule == "duration" and kind in UNSORTED:
        number = max(number, 1 << 24)  # or a stray stamp makes millions of frames
    return kind, events, {"duration_us" if rule == "duration" else "num_frames": number}


def compare(reference: ModuleType, seed: int, rule: str) -> str:
    """Run one case; return "equal", `REFUSED`, or what is different."""
    _, events, how = draw(seed, rule)
    named = dict(zip("txyp", events, strict=True))
    arguments = {"split_by": rule, "num_frames": None, **how}
    with patch.object(spikedistill.data.prepare.integrate, "SMALL_TABLE", 0 if seed % 2 else 1 << 30):  # both ways to count
        frames = integrate(events, height=HEIGHT, width=WIDTH, unsorted="as_spikingjelly", **arguments)
        if not np.array_equal(frames, count(as_numbered_by_a_file(events), frame_ranges(events.t, **arguments))):
            return f"seed {seed}, {rule}: frames of numbered events differ"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            if rule == "duration":
                expected = reference.integrate_events_by_fixed_duration(named, how["duration_us"], HEIGHT, WIDTH)
            else:
                expected = reference.integrate_events_by_fixed_frames_number(named, rule, how["num_frames"], HEIGHT, WIDTH)
    except IndexError:
        lost = (np.diff(events.t.astype(np.int64)) >= 0).all() and frames.sum() != len(events.t)
        return f"seed {seed}, {rule}: {frames.sum()} of {len(events.t)} events" if lost else REFUSED
    return "equal" if np.array_equal(frames, expected) else f"seed {seed}, {rule}: frames differ"


def as_numbered_by_a_file(events: Events) -> CellEvents:
    """The events as an AEDAT 2.0 file has them: everything counted from the other end."""
    x, y, p = WIDTH - 1 - events.x.astype(int), HEIGHT - 1 - events.y.astype(int), 1 - events.p
    return CellEvents(events.t, (x * HEIGHT + y) * 2 + p, HEIGHT, WIDTH, flipped=True)


def run(reference: ModuleType, rule: str, cases: int) -> tuple[int, list[str]]:
    """Compare as many recordings as SpikingJelly integrates; return how many it refused on the way, and the mismatches."""
    refused, mismatches, compared = 0, [], 0
    for seed in itertools.count():
        if compared == cases:
            return refused, mismatches
        result = compare(reference, seed, rule)
        refused += result == REFUSED
        compared += result != REFUSED
        if result not in (REFUSED, "equal"):
            mismatches.append(result)
    raise AssertionError


def main() -> int:
    """Run every rule and print the mismatches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="recordings to compare for each rule (default: 10000)")
    cases = parser.parse_args().cases
    reference = spikingjellys_datasets()
    failed = False
    for rule in RULES:
        refused, mismatches = run(reference, rule, cases)
        print(f"{rule:9} {cases} recordings compared, {refused} more that SpikingJelly refuses: {len(mismatches)} mismatches")
        print(*mismatches, sep="\n", end="\n" if mismatches else "")
        failed |= bool(mismatches)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
