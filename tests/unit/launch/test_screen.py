"""What the watch draws on a terminal."""

import io

import pytest
from rich.console import Console

from spikedistill.launch.status.screen import Screen
from spikedistill.launch.status.snapshot import STATES, Progress, Snapshot, StageStatus, Totals

COUNTS = {"running": 2, "pending": 1, "failed": 1, "waiting": 40, "done": 300}


def snapshot(problem=""):
    stages = [
        StageStatus(
            f"students/digits-{state}{i}",
            "distill",
            state,
            f"is {state} [bold]\x1b" if state == "pending" else state,
            left_s=5000.0,
            progress=Progress(3, 9, loss=0.25) if state == "running" else None,
        )
        for state in reversed(STATES)
        for i in range(COUNTS.get(state, 0))
    ]
    return Snapshot(0.0, tuple(stages), Totals(dict(COUNTS), 1.5, 20.0, 3600.0, 2), problem=problem)


def drawn(width, height, **fields):
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=True, color_system=None).print(Screen(snapshot(**fields), 10.0))
    return out.getvalue().rstrip("\n").splitlines()


@pytest.mark.parametrize("height", [12, 24, 60])
def test_it_fits_the_terminal_and_what_happens_comes_first(height):
    lines = drawn(150, height)
    assert len(lines) < height
    rows = [line.split()[1] for line in lines if line.startswith("distill")]
    assert [row.rstrip("0123456789") for row in rows[:2]] == ["digits-running"] * 2
    hidden = next(line for line in lines if line.startswith("…"))
    assert "300 done" in hidden or height == 60


def test_narrow_terminals_lose_ends_of_names_not_numbers():
    lines = drawn(64, 24)
    assert all(len(line) <= 64 for line in lines)
    assert lines[0].split()[-2:] == ["loss", "left"]
    assert next(line for line in lines if line.startswith("distill")).split()[-4:] == ["3/9", "0.2500", "~83", "min"]


def test_texts_are_neither_markup_nor_control_characters():
    text = "\n".join(drawn(150, 24, problem="squeue \x1b[2J failed"))
    assert "is pending [bold]" in text
    assert "\x1b[2J" not in text


def test_the_totals_stand_below():
    text = "\n".join(drawn(250, 24))
    assert "344 stages: 2 running, 1 pending, 1 failed, 40 waiting, 300 done" in text
    assert "GPU-hours: 1.5 used, ~20 to come" in text
    assert "if 2 run side by side" in text
