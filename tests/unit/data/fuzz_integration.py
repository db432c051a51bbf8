"""Random recordings through SpikingJelly's own integration and ours: `python tests/unit/data/fuzz_integration.py --cases 10000`.

Each case draws sizes, a type of the timestamps and a kind of trouble: ties, gaps, stamps that run backwards, a clock that
wraps. Where SpikingJelly raises, ours must give what it says instead; everywhere else the frames must be the same.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import sys
import warnings
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np

from spikedistill.data.events import Events
from spikedistill.data.integrate import integrate

RULES = ("number", "time", "duration")
KINDS = ("spread", "ties", "gaps", "few", "unsorted", "jump back", "stray", "equal")
UNSORTED = ("unsorted", "jump back", "stray")


def spikingjellys_datasets() -> ModuleType:
    """Its package, which needs torchaudio only for datasets of speech; a torchaudio of another CUDA cannot be imported."""
    for name in ("torchaudio", "torchaudio.datasets", "torchaudio.datasets.speechcommands", "torchaudio.datasets.utils"):
        sys.modules.setdefault(name, MagicMock())
    return importlib.import_module("spikingjelly.datasets.utils")


def draw(seed: int, rule: str) -> tuple[str, Events, dict[str, int]]:
    """A recording on a sensor of 7 rows and 9 columns, and how to integrate it."""
    random = np.random.default_rng([RULES.index(rule), seed])
    kind = KINDS[int(random.integers(len(KINDS)))]
    count = int(random.integers(1, 12)) if kind == "few" else int(random.integers(1, 400))
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
    x, y = random.integers(0, 9, count), random.integers(0, 7, count)
    events = Events(t.astype(dtype), x.astype("<u4"), y.astype("<u4"), random.integers(0, 2, count))
    number = int(random.integers(1, max(2, span))) if rule == "duration" else int(random.integers(1, 17))
    if rule == "duration" and kind in UNSORTED:
        number = max(number, 1 << 24)  # or a stray stamp makes millions of frames
    return kind, events, {"duration_us" if rule == "duration" else "num_frames": number}


def compare(reference: ModuleType, seed: int, rule: str) -> str:
    """Run one case; return "equal", "refused by SpikingJelly" or what is different."""
    _, events, how = draw(seed, rule)
    named = dict(zip("txyp", events, strict=True))
    frames = integrate(events, split_by=rule, height=7, width=9, unsorted="as_spikingjelly", **{"num_frames": None, **how})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            if rule == "duration":
                expected = reference.integrate_events_by_fixed_duration(named, how["duration_us"], 7, 9)
            else:
                expected = reference.integrate_events_by_fixed_frames_number(named, rule, how["num_frames"], 7, 9)
    except IndexError:
        lost = (np.diff(events.t.astype(np.int64)) >= 0).all() and frames.sum() != len(events.t)
        return f"seed {seed}, {rule}: {frames.sum()} of {len(events.t)} events" if lost else "refused by SpikingJelly"
    return "equal" if np.array_equal(frames, expected) else f"seed {seed}, {rule}: frames differ"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="recordings for each rule (default: 10000)")
    cases = parser.parse_args().cases
    reference = spikingjellys_datasets()
    mismatches = []
    for rule in RULES:
        results = collections.Counter(compare(reference, seed, rule) for seed in range(cases))
        equal, refused = results.pop("equal", 0), results.pop("refused by SpikingJelly", 0)
        print(f"{rule:9} {cases} cases: {equal} equal, {refused} that SpikingJelly refuses, {len(results)} mismatches")
        mismatches += results
    print(*mismatches, sep="\n", end="")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
