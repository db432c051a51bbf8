"""Which rows of an epoch are read together, and when. Numpy only.

A use is one sample of one step on this rank. Uses are numbered in the order of the steps, and within a step as in its batch.
Those that are to be read together, because they belong to one block, are all read for the first step that needs one of them.
Rows that follow each other in the file and are read for the same step are a run: one request.

Letters: U uses, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reads:
    """The reads of some steps, in the order in which they are started.

    Attributes:
        rows: row of each use [U].
        steps: uses of step s are [steps[s], steps[s + 1]).
        sequence: the uses in the order in which they are read [U].
        runs: run r reads the uses sequence[runs[r]:runs[r + 1]], of consecutive rows.
        starts: for step s, runs [starts[s], starts[s + 1]) are read.
    """

    rows: Integers
    steps: Integers
    sequence: Integers
    runs: Integers
    starts: Integers

    @property
    def num_steps(self) -> int:
        """S."""
        return len(self.steps) - 1

    def uses(self, step: int) -> slice:
        """Return the uses of a step."""
        return slice(int(self.steps[step]), int(self.steps[step + 1]))

    def runs_of(self, step: int) -> Integers:
        """Return the bounds of the runs that are read for a step, in `sequence`: one more than there are runs."""
        return self.runs[self.starts[step] : self.starts[step + 1] + 1]

    def ahead(self, in_flight: int) -> int:
        """Return how many steps to read ahead, at least one: enough for `in_flight` runs besides those of the waiting step."""
        runs, steps = len(self.runs) - 1, max(1, self.num_steps)
        return max(1, -(-in_flight * steps // max(1, runs)))

    def most_held(self, ahead: int) -> int:
        """Return the largest number of uses that are read, or being read, and not yet used."""
        last_read = np.minimum(np.arange(self.num_steps) + ahead + 1, self.num_steps)
        read = self.runs[self.starts[last_read]]
        return int((read - self.steps[:-1]).max(initial=1))


def plan_reads(rows: Sequence[Integers], groups: Sequence[Integers] | None, *, run_rows: int) -> Reads:
    """Plan the reads of some steps.

    Args:
        rows: rows of each step, in the order of its batch.
        groups: for each row of each step, the number of its block; None: every step reads its own rows.
        run_rows: rows of a run, at most.
    """
    sizes = np.array([len(each) for each in rows], dtype=np.int64)
    flat = joined(rows)
    due = np.repeat(np.arange(len(rows)), sizes)
    if groups is not None and flat.size:
        _, first, number = np.unique(np.concatenate(groups), return_index=True, return_inverse=True)
        due = due[first][number]
    sequence = np.lexsort((flat, due))
    runs = _run_starts(flat[sequence], due[sequence], run_rows)
    starts = np.searchsorted(due[sequence][runs], np.arange(len(rows) + 1))
    steps = np.concatenate([[0], np.cumsum(sizes)])
    return Reads(flat, steps, sequence, np.append(runs, flat.size), starts)


def joined(rows: Sequence[Integers]) -> Integers:
    """Return the rows of all steps as one vector, of no values if there are no steps."""
    return np.concatenate([*rows, np.empty(0, np.int64)])


def _run_starts(rows: Integers, due: Integers, run_rows: int) -> Integers:
    """Return where runs start: at another step, where rows do not follow each other, and after so many rows."""
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (np.diff(rows) != 1) | (np.diff(due) != 0)
    firsts = np.flatnonzero(is_first)
    place = np.arange(len(rows)) - np.repeat(firsts, np.diff(np.append(firsts, len(rows))))
    return np.flatnonzero(place % run_rows == 0)
