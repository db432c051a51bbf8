"""Sizes of frames, sums of neighbouring pixels, and which recordings are unusually short or long."""

import numpy as np
import pytest

from spikedistill.data.formats.archives import Member
from spikedistill.data.prepare.frames import FACTS, FrameParams, Recording, Rows
from spikedistill.data.prepare.integrate import binned


def test_a_recording_is_short_below_half_and_long_above_twice_the_median_of_its_class():
    durations = {0: [10, 49, 51, 100, 100, 200, 201, 900], 1: [20, 20, 20]}  # medians 100 and 20; the mean of class 0 is 201.4
    labels = [label for label, of_class in durations.items() for _ in of_class]
    facts = np.zeros(len(labels), FACTS)
    facts["duration_us"] = [duration for of_class in durations.values() for duration in of_class]
    rows = Rows([Recording(Member("file"), f"recording {i}", label) for i, label in enumerate(labels)], facts)
    assert rows.short.tolist() == [True, True, *[False] * 9]
    assert rows.long.tolist() == [*[False] * 6, True, True, False, False, False]
    assert [row["id"] for row in rows if row.get("short")] == ["recording 0", "recording 1"]


@pytest.mark.parametrize(("given", "expected"), [({}, (5, 7)), ({"height": 2}, (2, 7)), ({"height": 2, "width": 3}, (2, 3))])
def test_a_picture_has_the_rows_and_columns_of_the_sensor_unless_set(given, expected):
    assert FrameParams(**given).picture((5, 7)) == expected


def test_sums_of_pixels_above_255_are_kept():
    found = binned(np.full((1, 2, 3, 3), 200, dtype=np.uint8), 1, 2)
    assert found.dtype == np.uint16
    assert found[0, 0].tolist() == [[6 * 200, 3 * 200]]  # columns 0 and 1, for 1 * 2 // 3 is 0, then 2
