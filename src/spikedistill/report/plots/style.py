"""The common style of the figures: size, type, colours, markers. Imports matplotlib, and no torch.

A panel is as wide as a column of a paper, and its text is legible there without scaling. A method has the same colour and marker
in every panel; teachers are grey. The colours are those of Okabe and Ito, which colour-blind readers can tell apart; in greyscale
print the markers distinguish the methods.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib

from spikedistill.report.records import Group

COLUMN_IN = 3.3
"""Width of a panel in inches, 84 mm: that of a column in the two-column styles of journals and conferences."""
FONT_PT = 7.0
"""Size of the smallest text."""
LETTER_IN = 0.065
"""Mean width of a letter of that size, in inches."""
TITLE_LETTERS = 36
"""As many fit into a line of a panel."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
DASHES = ("-", ":", "-.")
TEACHER_COLOUR = "#777777"
HEAT = "viridis"
"""Colours of quantities; its lightness rises evenly, so that it can be read in greyscale, too."""
Style = dict[str, Any]

_RC: Any = {
    "figure.dpi": 300,  # of pictures; everything else is lines and type
    "svg.hashsalt": "spikedistill",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
    "text.parse_math": False,  # labels are the user's, and may have dollars
    "font.family": "DejaVu Sans",
    "font.size": FONT_PT,
    **{f"{name}.labelsize": FONT_PT for name in ("axes", "xtick", "ytick")},
    "axes.titlesize": 8.0,
    "figure.titlesize": 8.0,
    "legend.fontsize": FONT_PT,
    "axes.linewidth": 0.6,
    **{f"{axis}tick.{kind}.width": 0.6 for axis in "xy" for kind in ("major", "minor")},
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "errorbar.capsize": 2.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}


@contextmanager
def report_style() -> Iterator[None]:
    """Draw with the settings of the report, whatever the user's matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def wrapped(text: str, letters: int = TITLE_LETTERS) -> str:
    """Return text in lines of at most some letters; long words are broken, since labels of sweeps have no spaces."""
    return "\n".join(textwrap.wrap(text, letters))


def method_styles(groups: Sequence[Group]) -> dict[str, Style]:
    """Return colour, marker and dashes of each method, by its position among all methods: 24 of them differ."""
    methods = dict.fromkeys(group.method for group in groups if not group.is_teacher)
    found = {method: _style(i) for i, method in enumerate(methods)}
    return found | {group.method: {"color": TEACHER_COLOUR, "linestyle": "--"} for group in groups if group.is_teacher}


def _style(position: int) -> Style:
    turn, place = divmod(position, len(COLOURS))
    return {
        "color": COLOURS[place],
        "marker": MARKERS[(place + 3 * turn) % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }
