"""Decoders and integration against SpikingJelly's own results, and against damaged files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from spikedistill.data.formats.events import CellEvents, Events, read_aedat2, read_aedat3, read_atis, write_aedat2
from spikedistill.data.prepare.integrate import in_order, integrate
from spikedistill.errors import DataError
from tests.unit.data import fuzz_integration

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = json.loads((GOLDEN / "dvs_integrate.json").read_text())["cases"]
FILES = json.loads((GOLDEN / "dvs_files.json").read_text())
ARRAYS = np.load(GOLDEN / "dvs_files.npz")


def as_events(case):
    return Events(*(np.array(case["events"][k], dtype=np.dtype(case["dtype"][k])) for k in "txyp"))


def run_rule(case, expected, **options):
    argument = {"duration_us" if expected["rule"] == "duration" else "num_frames": expected["arg"]}
    arguments = {"num_frames": None, **argument}
    return integrate(as_events(case), split_by=expected["rule"], height=case["H"], width=case["W"], **arguments, **options)


def backwards(case):
    return bool((np.diff(np.array(case["events"]["t"], dtype=np.int64)) < 0).any())


def outside(case):
    x, y = np.array(case["events"]["x"]), np.array(case["events"]["y"])
    return bool(((x < 0) | (x >= case["W"]) | (y < 0) | (y >= case["H"])).any())


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_integration_equals_spikingjelly_or_refuses_what_it_gets_wrong(case):
    for expected in case["expect"]:
        if outside(case):
            with pytest.raises(DataError, match="outside the"):
                run_rule(case, expected)
        elif backwards(case) and expected["rule"] != "number":
            with pytest.raises(DataError, match="run backwards"):
                run_rule(case, expected)
        elif "raises" in expected:
            assert int(run_rule(case, expected).sum()) == len(case["events"]["t"])
        else:
            frames = run_rule(case, expected)
            reference = np.zeros(expected["shape"], dtype=np.int64)
            for cell, count in expected["nonzero"]:
                reference.flat[cell] = count
            np.testing.assert_array_equal(frames, reference)


OLDER = {case["name"]: case for case in json.loads((GOLDEN / "dvs_frames.json").read_text())["cases"]}


@pytest.mark.parametrize("case", [case for case in OLDER.values() if case["hparams"]], ids=lambda c: c["name"])
def test_integration_equals_that_of_an_older_spikingjelly(case):
    events = Events(*(np.array(case["inputs"][field]) for field in "txyp"))
    how = case["hparams"]
    frames = integrate(events, num_frames=how["frames_num"], split_by=how["split_by"], height=how["H"], width=how["W"])
    np.testing.assert_array_equal(frames, case["expected"]["frames_M2HW"])


def test_an_empty_window_is_an_error_on_request():
    case = next(c for c in CASES if c["name"] == "time_gap_empty_middle_bin")
    with pytest.raises(DataError, match="has no events"):
        run_rule(case, {"rule": "time", "arg": 3}, empty_windows="error")


def test_unsorted_events_can_be_sorted_on_request():
    events = Events(np.array([5, 1, 9]), np.array([0, 1, 2]), np.zeros(3, int), np.ones(3, int))
    frames = integrate(events, num_frames=2, split_by="time", height=1, width=3, unsorted="sort")
    np.testing.assert_array_equal(frames[:, 1, 0], [[0, 1, 0], [1, 0, 1]])


def test_events_of_equal_time_stay_in_the_order_of_the_file():
    recorded = CellEvents(np.array([5, 3, 5, 3, 4]), np.arange(5), 1, 3)
    found, steps = in_order(recorded, "sort")
    assert (found.t.tolist(), found.cell.tolist(), steps) == ([3, 3, 4, 5, 5], [1, 3, 4, 0, 2], 2)


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_the_first_pixel_beyond_any_side_of_the_sensor_is_refused(x, y):
    events = Events(np.arange(2), np.array([2, x]), np.array([1, y]), np.ones(2, int))
    with pytest.raises(DataError, match=rf"1 events lie outside the 3 x 2 sensor; the first is event 1 at x={x}, y={y}"):
        integrate(events, num_frames=1, split_by="number", height=2, width=3)


def test_counts_of_exactly_255_need_no_more_than_8_bits():
    events = Events(*(np.zeros(255, int) for _ in range(4)))
    assert integrate(events, num_frames=1, split_by="number", height=1, width=1).dtype == np.uint8


def test_counts_above_255_are_kept():
    events = Events(np.arange(300), np.zeros(300, int), np.zeros(300, int), np.zeros(300, int))
    frames = integrate(events, num_frames=1, split_by="number", height=1, width=1)
    assert frames.dtype == np.uint16
    assert frames[0, 0, 0, 0] == 300


@pytest.fixture
def spikingjelly():
    """SpikingJelly's own functions."""
    return fuzz_integration.spikingjellys_datasets()


@pytest.mark.parametrize("rule", fuzz_integration.RULES)
def test_random_recordings_equal_spikingjellys_own_integration(rule, spikingjelly):
    _, mismatches = fuzz_integration.run(spikingjelly, rule, 1000)
    assert mismatches == []


def pixels_of(content, count):
    """Which of the last `count` events of an AEDAT 2.0 file have an address that a DVS128 pixel can have."""
    return np.frombuffer(content[-8 * count :], dtype=">u4")[::2] < 0x8000


@pytest.mark.parametrize("case", FILES["aedat2"], ids=lambda c: c["name"])
def test_aedat2_files_decode_and_integrate_as_spikingjelly_does(case, tmp_path):
    path = tmp_path / "recording.aedat"
    path.write_bytes(ARRAYS[f"aedat2_{case['name']}_bytes"].tobytes())
    events = read_aedat2(path)
    pixels = pixels_of(path.read_bytes(), case["n_events"])
    for field in "txyp":
        np.testing.assert_array_equal(getattr(events, field), ARRAYS[f"aedat2_{case['name']}_{field}"][pixels])
    if not pixels.all():  # it counts what is no pixel, too
        assert len(pixels) - len(events.t) == 2
        return
    for name, expected in case["frames"].items():
        rule, _, steps = name.partition("_T")
        frames = integrate(events, num_frames=int(steps), split_by=rule, height=128, width=128)
        assert hashlib.sha256(frames.astype(np.uint8).tobytes()).hexdigest() == expected["sha256_u8"]


@pytest.mark.parametrize("case", FILES["aedat31"], ids=lambda c: c["name"])
def test_aedat3_files_decode_as_spikingjelly_does(case, tmp_path):
    path = tmp_path / "recording.aedat"
    path.write_bytes(ARRAYS[f"aedat31_{case['name']}_bytes"].tobytes())
    events = read_aedat3(path)
    for field in "txyp":
        np.testing.assert_array_equal(getattr(events, field), ARRAYS[f"aedat31_{case['name']}_{field}"])


def test_atis_files_decode_as_spikingjelly_does(tmp_path):
    path = tmp_path / "recording.bin"
    path.write_bytes(ARRAYS["atis_bytes"].tobytes())
    for field, column in zip("txyp", read_atis(path), strict=True):
        np.testing.assert_array_equal(column, ARRAYS[f"atis_{field}"])


def test_what_is_written_is_read_back(tmp_path):
    events = Events(np.arange(5), np.array([0, 1, 127, 64, 3]), np.array([127, 0, 5, 64, 2]), np.array([0, 1, 1, 0, 1]))
    write_aedat2(tmp_path / "a.aedat", events)
    for before, after in zip(events, read_aedat2(tmp_path / "a.aedat"), strict=True):
        np.testing.assert_array_equal(before, after)
