"""The figures as LaTeX: a float for each page of the PDF files, with caption and label. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from spikedistill.report.paper.text import escape

_HEAD = r"""% A float for each panel of the figures, to copy into a paper. Needs \usepackage{graphicx} and the PDF files.
% Panels are 84 mm wide, so that they need no scaling in a column. \clearpage lets this file be included as it is."""


class FigurePages(NamedTuple):
    """A PDF file of figures.

    Attributes:
        stem: its name without ending.
        caption: what its pages show.
        subjects: what each page is about.
    """

    stem: str
    caption: str
    subjects: tuple[str, ...]


def figures_tex(figures: Iterable[FigurePages]) -> str:
    """Return the floats of some figures; a figure that shows nothing has none."""
    return "\n".join([_HEAD, *(line for each in figures if each.subjects for line in _floats(each))]) + "\n"


def _floats(figure: FigurePages) -> Iterator[str]:
    for page, subject in enumerate(figure.subjects, start=1):
        yield r"\begin{figure}"
        yield r"  \centering"
        yield f"  \\includegraphics[page={page}]{{{figure.stem}.pdf}}"
        yield f"  \\caption{{{escape(subject)}. {escape(figure.caption)}}}"
        yield f"  \\label{{fig:{figure.stem.replace('_', '-')}-{page}}}"
        yield r"\end{figure}"
    yield r"\clearpage"
