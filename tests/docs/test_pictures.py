"""The pictures of the documents: all are there, none is large, and what a terminal showed keeps its colours."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("rich")
FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
_spec = importlib.util.spec_from_file_location("make_pictures", FOLDER / "make.py")
make_pictures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_pictures)


@pytest.mark.parametrize("name", make_pictures.PICTURES)
def test_every_picture_is_there_and_small(name):
    content = (FOLDER / f"{name}.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 400_000


def test_no_picture_is_left_over():
    assert {file.stem for file in FOLDER.glob("*.png")} == set(make_pictures.PICTURES)


def test_a_colour_of_the_terminal_holds_until_the_next_and_the_last_lines_are_shown():
    page = make_pictures.as_page("first\n\033[32mgreen\nstill green\033[0m and plain\n\n", 2)
    assert "first" not in page
    assert re.findall(r'<span style="color: (#\w+)[^>]*>([^<]+)<', page) == [("#3fb950", "green"), ("#3fb950", "still green")]
