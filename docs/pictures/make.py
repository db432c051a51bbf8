"""Make the pictures of README and documents, in a real terminal and a real browser: `make pictures`.

Runs the demo in a terminal of its own (tmux) with `spikedistill status --watch` beside it, takes what both show, and has Chromium
draw that, the report and its figure of accuracy over energy. So the pictures show what the program prints.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageChops
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

HERE = Path(__file__).parent
PICTURES = ("accuracy_over_energy", "demo", "report", "watch")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLUMNS, ROWS = 156, 40
MARGIN = 36  # pixels around what a page shows, at the right and below
LONGEST_S = 1800.0
END = re.compile(r"^\d+ of \d+ steps done, .*\n", re.MULTILINE)  # of the lines about stages; the table of results follows
COLOURS = [
    (72, 79, 88),
    (255, 123, 114),
    (63, 185, 80),
    (210, 153, 34),
    (88, 166, 255),
    (188, 140, 255),
    (57, 197, 207),
    (177, 186, 196),
]
THEME = TerminalTheme((13, 17, 23), (214, 216, 219), COLOURS)
TERMINAL = """<body style="margin:0;background:{background}"><pre style="margin:0;padding:18px 22px;font:13px/1.35 monospace;
color:{foreground}">{code}</pre></body>"""
FIGURE = '<body style="margin:0;background:white"><img src="{source}" style="width:100%"></body>'


class Terminal:
    """A terminal without a screen, in which programs run."""

    def __init__(self, folder: Path) -> None:
        """Start it in a folder."""
        self._server = [_program("tmux"), "-f", os.devnull, "-S", str(folder / "terminal")]
        self._windows = 0

    def run(self, name: str, command: Sequence[str], folder: Path) -> None:
        """Run a command in a window of that name, which stays open when it has ended."""
        if self._windows:
            start = ["new-window", "-d"]
        else:
            start = ["new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-s", "pictures"]
        self._windows += 1
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        holding = ["sh", "-c", '"$@"; echo $? > "$0"; sleep 3600', str(self._status(folder, name)), *command]
        self._tmux(*start, "-n", name, "-c", str(folder), "-e", f"PATH={path}", "-e", "COLORTERM=truecolor", *holding)

    def has_ended(self, name: str, folder: Path) -> bool:
        """Tell whether the command of a window has ended.

        Raises:
            SystemExit: if it has failed.
        """
        file = self._status(folder, name)
        if not file.exists() or not (status := file.read_text().strip()):
            return False
        if status != "0":
            sys.exit(f"{name} ended with status {status}:\n{self.shown(name, everything=True)}")
        return True

    def shown(self, name: str, *, everything: bool = False) -> str:
        """Return what a window shows, with its escape sequences; with `everything`, also what has left it at the top."""
        return self._tmux("capture-pane", "-e", "-p", "-t", f"pictures:{name}", *(["-S", "-"] if everything else []))

    def close(self) -> None:
        """End it, with everything that runs in it."""
        subprocess.run([*self._server, "kill-server"], capture_output=True)

    def _status(self, folder: Path, name: str) -> Path:
        return folder / f".{name}.status"

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run([*self._server, *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def demo(folder: Path) -> Iterator[tuple[str, str]]:
    """Run the demo in a folder; yield what its terminal showed of stages, and what `status --watch` did in the middle."""
    terminal, project = Terminal(folder), folder / "demo"
    project.mkdir()
    try:
        terminal.run("demo", ["spikedistill", "demo"], project)
        deadline = time.monotonic() + LONGEST_S
        watched = ""
        while not terminal.has_ended("demo", project):
            if time.monotonic() > deadline:
                sys.exit(f"the demo takes more than {LONGEST_S:.0f} s:\n{terminal.shown('demo')}")
            time.sleep(1)
            students = len(list((project / "store" / "students").glob("*/manifest.json")))
            if not watched and (project / "store" / "data").is_dir():
                watched = "watch"
                terminal.run("watch", ["spikedistill", "status", "--profile", "cluster/local", "--watch", "1"], project)
            if students >= 3 and watched == "watch":
                watched = terminal.shown("watch")
        run = terminal.shown("demo", everything=True)
        if watched in ("", "watch"):
            sys.exit(f"the demo ended before `status --watch` was seen:\n{run}")
        yield run[: end.end()] if (end := END.search(run)) else run, watched
    finally:
        terminal.close()


def as_page(shown: str, last: int | None = None) -> str:
    """Return what a terminal showed as an HTML page; `last`: only so many lines at the end."""
    lines = list(AnsiDecoder().decode(shown.rstrip()))[-(last or 0) :]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop")
    return console.export_html(theme=THEME, code_format=TERMINAL, inline_styles=True)


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """Have the browser draw a page of so many CSS pixels, twice as fine; cut off what is empty at the right and below."""
    browser = _program(*BROWSERS)
    flags = ["--headless", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=2", "--virtual-time-budget=10000"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as profile:
        places = [f"--user-data-dir={profile}", f"--screenshot={picture}", f"--window-size={width},{height}"]
        subprocess.run([browser, *flags, *places, page.resolve().as_uri()], check=True, capture_output=True, timeout=300)
    image = Image.open(picture).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((image.width - 1, image.height - 1)))
    _, _, right, bottom = ImageChops.difference(image, empty).getbbox() or (0, 0, *image.size)
    image = image.crop((0, 0, min(right + MARGIN, image.width), min(bottom + MARGIN, image.height)))
    image.quantize(128).save(picture, optimize=True)


def _program(*names: str) -> str:
    """Return the path of a program that has one of these names."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or sys.exit(f"the pictures need {names[0]}: on Debian, apt-get install {names[0]}")


def make(results: Path, shown: dict[str, str], folder: Path) -> None:
    """Write the pictures next to this file.

    Args:
        results: a folder with results.html and figures.
        shown: what terminals showed, by name of the picture.
        folder: for temporary files.
    """
    for name, text in shown.items():
        page = folder / f"{name}.html"
        page.write_text(as_page(text, ROWS), encoding="utf-8")
        photograph(page, HERE / f"{name}.png", 1280, 900)
    photograph(results / "results.html", HERE / "report.png", 1240, 1000)
    page = folder / "figure.html"
    page.write_text(FIGURE.format(source=(results / "accuracy_over_energy.svg").resolve().as_uri()), encoding="utf-8")
    photograph(page, HERE / "accuracy_over_energy.png", 900, 700)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="take report and figure from here (default: from the demo)")
    options = parser.parse_args()
    _program(*BROWSERS)
    with tempfile.TemporaryDirectory(prefix="spikedistill-") as name:
        folder = Path(name)
        with demo(folder) as (run, watched):
            make(options.results or folder / "demo" / "results", {"demo": run, "watch": watched}, folder)
    for picture in PICTURES:
        print(f"{picture}: {(HERE / f'{picture}.png').stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
