"""Which evaluations had their machine to themselves."""

from __future__ import annotations

import pytest

from spikedistill.report.alone import measured_alone


def manifest(start, end, host="a"):
    return {"host": host, "started": f"2026-01-01T00:00:{start:02}+00:00", "created": f"2026-01-01T00:00:{end:02}+00:00"}


@pytest.mark.parametrize(
    ("stays", "alone"),
    [
        ({"x": (0, 5), "y": (5, 9)}, {"x", "y"}),
        ({"x": (0, 6), "y": (5, 9)}, set()),
        ({"x": (0, 30), "y": (5, 9), "z": (10, 12), "after": (30, 31)}, {"after"}),
        ({"x": (0, 5), "y": (0, 5)}, set()),
        ({"x": (20, 25), "y": (0, 5)}, {"x", "y"}),
    ],
)
def test_stages_that_overlap_on_a_host_were_not_alone(stays, alone):
    found = measured_alone({ref: manifest(*times) for ref, times in stays.items()})
    assert {ref for ref, is_alone in found.items() if is_alone} == alone
    assert found.keys() == stays.keys()


def test_other_hosts_do_not_count_and_manifests_without_times_are_unknown():
    found = measured_alone({"x": manifest(0, 5), "y": manifest(0, 5, host="b"), "old": {"host": "a"}})
    assert found == {"x": True, "y": True}


def test_times_are_compared_across_time_zones():
    early = {"host": "a", "started": "2026-01-01T02:00:00+02:00", "created": "2026-01-01T02:00:05+02:00"}
    assert measured_alone({"x": early, "y": manifest(4, 8)}) == {"x": False, "y": False}
