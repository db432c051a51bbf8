"""The notes below the tables: what the numbers mean, and what they do not say. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from spikedistill.report.statistics import LEVEL
from spikedistill.report.tables.rows import NOT_ALONE, TableRow

DEFINITIONS = (
    "Accuracy: on the test split, of the mean of the logits over all T time steps; mean ± sample standard deviation over seeds. "
    "Firing rate: spikes per neuron and time step. Energy: per sample, of the arithmetic at the synapses only. The teacher is a "
    "non-spiking network. Reported rows are results that others published."
)
_INTERVALS = (
    "Against the baseline: mean difference in percentage points over the seeds that both have, with the 95 % confidence interval "
    "of Student's t for two or more seeds. An interval is for its own comparison and not corrected for their number; p (Holm) is "
    "the p value of the paired t test, corrected for all tests of this report, for three or more seeds."
)
_ONE_TEACHER = (
    "All seeds have the same teacher: intervals and p values cover the seeds of its students only, and say nothing about other "
    "teachers."
)
_OWN_TEACHERS = "Each seed has a teacher of its own: intervals and p values include the differences between teachers."
_TIMES = (
    f"{NOT_ALONE}: measured while other stages of this comparison ran on the same machine, or not known to be alone: do not "
    "compare it. Without the mark, no other stage of it ran there; what else the machine did is not known."
)


def notes(rows: Sequence[TableRow]) -> list[str]:
    """Return the notes below the main table: definitions, intervals, missing runs and why, sources of published results."""
    missing = [f"{row.experiment}, {row.method}: {problem}" for row in rows for problem in row.problems]
    sources = list(dict.fromkeys(f"{row.method}, reported: {row.published.source}" for row in rows if row.published))
    return [DEFINITIONS, *interval_notes(rows), *(f"Missing: {each}." for each in missing), *(f"{each}." for each in sources)]


def interval_notes(rows: Sequence[TableRow]) -> list[str]:
    """Return what the intervals and p values cover: which seeds, how many teachers, how many comparisons."""
    compared = [row for row in rows if row.difference]
    return [" ".join([_INTERVALS, *_teacher_notes(compared)])] if compared else []


def _teacher_notes(rows: Sequence[TableRow]) -> list[str]:
    several = [row for row in rows if row.num_seeds > 1 and row.num_teachers]
    shared = [row for row in several if row.num_teachers == 1]
    own = [row for row in several if row.num_teachers == row.num_seeds]
    if len(shared) == len(several):
        return [_ONE_TEACHER] if shared else []
    if len(own) == len(several):
        return [_OWN_TEACHERS]
    found = []
    for group, note in ((shared, _ONE_TEACHER), (own, _OWN_TEACHERS)):
        if group:
            found.append(f"{', '.join(dict.fromkeys(row.experiment for row in group))}: {note[0].lower()}{note[1:]}")
    return found


def significance_note(num_tests: int) -> str:
    """Return what marks a significant difference."""
    return f"differs from the baseline, p < {LEVEL:g} after Holm's correction for {num_tests} tests"


def time_notes(rows: Sequence[TableRow]) -> list[str]:
    """Return the note below a table with times, if there is anything to say."""
    return [_TIMES] if any(row.num_timed_alone < row.num_seeds for row in rows) else []
