"""docs/architecture.md draws and lists the rooms of the package as they are."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "spikedistill"
SECTION = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Rooms")[2].partition("\n## ")[0]
NOT_DRAWN = {"__init__", "errors", "components", "plugins", "lazy", "cpus"}
ARROWS = re.findall(r"^    (\w+) --> (\w+)$", SECTION, re.MULTILINE)
NAMES = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
ROOMS = NAMES - NOT_DRAWN


def imported_rooms(room):
    """The rooms that the modules of a room import, wherever the statement stands."""
    names = set()
    files = [*PACKAGE.glob(f"{room}.py"), *PACKAGE.glob(f"{room}/**/*.py")]
    for file in (file for file in files if "template" not in file.parts):  # what is copied into projects, not imported
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("spikedistill.")} & ROOMS - {room}


def below(room):
    direct = {to for start, to in ARROWS if start == room}
    return direct.union(*map(below, direct))


def test_every_room_is_listed_and_drawn():
    assert set(re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)) == ROOMS
    assert {room for arrow in ARROWS for room in arrow} == ROOMS


def test_imports_follow_the_arrows():
    surplus = {room: imported_rooms(room) - below(room) for room in sorted(ROOMS)}
    assert {room: names for room, names in surplus.items() if names} == {}


def test_the_list_is_in_the_order_of_the_arrows():
    listed = re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)
    assert all(listed.index(start) < listed.index(to) for start, to in ARROWS)
