"""The comparison as LaTeX that compiles as it is: floats with caption and label, in the style of booktabs. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from spikedistill.report.paper.text import escape
from spikedistill.report.sections.significance import SIGNIFICANT
from spikedistill.report.tables.columns import ACCURACY, RESULTS
from spikedistill.report.tables.notes import interval_notes, notes, significance_note
from spikedistill.report.tables.rows import MISSING, NOT_APPLICABLE, TableRow

PACKAGES = "booktabs,graphicx"
MAX_ROWS = 50
"""Of one float, at the size of footnotes on a page of a paper; a longer comparison becomes several, cut between experiments."""
_HEADERS = (
    *("Method", "Architecture", "$T$", r"Accuracy (\%)", "Against baseline", "$p$ (Holm)"),
    *("After 1 step", "Firing rate", r"Energy ($\mu$J)", "Seeds"),
)
_COLUMNS = "@{}llr" + "r" * (len(_HEADERS) - 3) + "@{}"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # only what is wider than the page is made smaller


def latex_tables(rows: Sequence[TableRow], num_tests: int) -> str:
    """Return the comparison as floats over the width of the page, which need the packages of `PACKAGES`.

    In each experiment the best mean accuracy of a student is bold; a dagger marks accuracies that differ significantly from that
    of the baseline.

    Args:
        rows: the rows of the comparison.
        num_tests: number of paired tests in the report.
    """
    head = [f"% Needs \\usepackage{{{PACKAGES}}}.", *(f"% {' '.join(note.split())}" for note in notes(rows))]
    parts = _parts(rows)
    floats = [_float(part, _caption(rows, num_tests, at, len(parts)), _label(at, len(parts))) for at, part in enumerate(parts)]
    return "\n".join([*head, *floats]) + "\n"


def _parts(rows: Sequence[TableRow]) -> list[list[TableRow]]:
    """Cut rows between experiments into parts of at most `MAX_ROWS` rows, as far as experiments are not longer; at least one."""
    parts: list[list[TableRow]] = [[]]
    for _, group in groupby(rows, key=lambda row: row.experiment):
        experiment = list(group)
        if parts[-1] and len(parts[-1]) + len(experiment) > MAX_ROWS:
            parts.append([])
        parts[-1] += experiment
    return parts


def _label(at: int, count: int) -> str:
    return "tab:results" if count == 1 else f"tab:results-{at + 1}"


def _caption(rows: Sequence[TableRow], num_tests: int, at: int, count: int) -> str:
    of = f" (part {at + 1} of {count})" if count > 1 else ""
    text = (
        f"Test accuracy of the students and their teachers{of}: mean ± sample standard deviation over seeds. Bold: the best mean "
        "accuracy of a student in its experiment. Firing rate: spikes per neuron and time step. Energy: per sample, of the "
        "arithmetic at the synapses."
    )
    if num_tests:
        text += f" {SIGNIFICANT}: {significance_note(num_tests)}."
    if any(row.published for row in rows):
        text += " Italic: figures reported by others."
    return escape(" ".join([text, *interval_notes(rows)]))


def _float(rows: Sequence[TableRow], caption: str, label: str) -> str:
    lines = [
        r"\begin{table*}",
        r"  \centering",
        f"  \\caption{{{caption}}}",
        f"  \\label{{{label}}}",
        r"  \par\smallskip\footnotesize\setlength{\tabcolsep}{4pt}",
        f"  {_FIT}",
        f"  \\begin{{tabular}}{{{_COLUMNS}}}",
        r"    \toprule",
        f"    {' & '.join(_HEADERS)} \\\\",
        *(f"    {line}" for line in _body(rows)),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _body(rows: Sequence[TableRow]) -> Iterator[str]:
    for experiment, group in groupby(rows, key=lambda row: row.experiment):
        yield r"\midrule"
        yield f"\\multicolumn{{{len(_HEADERS)}}}{{@{{}}l}}{{{escape(experiment)}}} \\\\"
        own = list(group)
        best = best_accuracy(own)
        for row in own:
            yield " & ".join(_cells(row, best)) + r" \\"


def best_accuracy(rows: Sequence[TableRow]) -> str | None:
    """Return the best mean accuracy of the students among measured rows, as it is shown; None if there is none."""
    means = [spread.mean for row in rows if not row.is_teacher and (spread := row.measured.get(ACCURACY))]
    return _shown_mean(max(means)) if means else None


def _shown_mean(mean: float) -> str:
    return f"{mean * ACCURACY.factor:.{ACCURACY.digits}f}"


def _cells(row: TableRow, best: str | None) -> list[str]:
    _, method, arch, time_steps = row.names()
    italic = row.published is not None
    names = [f"\\textit{{{escape(each)}}}" if italic else escape(each) for each in (method, arch)]
    measured = [_number(row.cell(column)) for column in RESULTS[1:]]
    numbers = [_number(time_steps), _accuracy(row, best), _number(row.against_baseline()), _number(row.corrected_p())]
    return [*names, *numbers, *measured, _number(row.seeds())]


def _accuracy(row: TableRow, best: str | None) -> str:
    text = _number(row.cell(ACCURACY))
    if row.published:
        return f"\\textit{{{text}}}"
    spread = row.measured.get(ACCURACY)
    if spread and not row.is_teacher and _shown_mean(spread.mean) == best:
        text = f"\\textbf{{{text}}}"
    return text + (r"\rlap{$^{\dagger}$}" if row.test and row.test.is_significant else "")


def _number(text: str) -> str:
    """Return the text of a cell with signs, powers of ten and dashes as LaTeX sets them."""
    if text == NOT_APPLICABLE:
        return "--"
    if text == MISSING or not re.match(r"[-+]?\d", text):
        return escape(text)
    text = re.sub(r"(\d(?:\.\d+)?)e([-+])0*(\d+)", lambda m: f"${m[1]}\\cdot10^{{{m[2].strip('+')}{m[3]}}}$", text)
    return re.sub(r"(?<![\d{])([-+])(\d)", r"$\1$\2", text).replace("±", r"$\pm$")
