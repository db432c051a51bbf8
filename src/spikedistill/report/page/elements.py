"""The elements of the page: tables, figures, paragraphs. Everything that goes in is text and is escaped. Imports no torch."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from spikedistill.report.plots.panels import Rendered

MAX_OPEN_ROWS = 60
"""A longer table is folded until the reader opens it; a browser's search still finds its content."""


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    first_number: int,
    kinds: Sequence[str] | None = None,
    *,
    last_number: int | None = None,
) -> str:
    """Return a table.

    Args:
        headers: its headers.
        rows: the cells of each row.
        first_number: its columns from this one on hold numbers.
        kinds: what each row is, a class of the style sheet.
        last_number: the last column that holds numbers (default: the last one).
    """
    last = len(headers) - 1 if last_number is None else last_number
    of_column = ["number" if first_number <= i <= last else "text" for i in range(len(headers))]
    head = "".join(f'<th class="{kind}">{html.escape(text)}</th>' for kind, text in zip(of_column, headers, strict=True))
    body = "".join(
        f'<tr class="{kind}">'
        + "".join(f'<td class="{c}">{html.escape(cell)}</td>' for c, cell in zip(of_column, cells, strict=True))
        + "</tr>\n"
        for kind, cells in zip(kinds or ["run"] * len(rows), rows, strict=True)
    )
    made = f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'
    return made if len(rows) <= MAX_OPEN_ROWS else f"<details>\n<summary>{len(rows)} rows</summary>\n{made}</details>\n"


def figure(title: str, caption: str, drawn: Rendered) -> str:
    """Return a figure: a picture for each panel, and the caption below."""
    subjects = drawn.subjects or ("",) * len(drawn.panels)
    images = "".join(_image(f"{title}: {subject}", svg) for subject, svg in zip(subjects, drawn.panels, strict=True))
    return f'<figure>\n<div class="panels">\n{images}</div>\n<figcaption>{html.escape(caption)}</figcaption>\n</figure>\n'


def _image(text: str, svg: str) -> str:
    source = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{html.escape(text.rstrip(": "), quote=True)}" src="data:image/svg+xml;base64,{source}">\n'


def paragraphs(texts: Sequence[str]) -> str:
    """Return a paragraph for each text."""
    return "".join(f"<p>{html.escape(text)}</p>\n" for text in texts)


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a list of names and what they stand for."""
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>\n" for name, value in pairs)
    return f"<dl>\n{items}</dl>\n"


def preformatted(text: str) -> str:
    """Return text that keeps its lines."""
    return f"<pre>{html.escape(text)}</pre>\n"


def anchor(title: str) -> str:
    """Return the anchor of a title, for links."""
    return html.escape(title.lower().replace(" ", "-"), quote=True)
