"""The number of CPUs that this process may use. Imports no torch."""

from __future__ import annotations

import os


def own_cpus() -> int:
    """Return the CPUs of this rank: those that it may run on, and no more than OMP_NUM_THREADS, which jobs set to their share.

    Several ranks of a node may run on all of its CPUs if nothing binds them, and the jobs of a workstation always may.
    """
    visible = len(os.sched_getaffinity(0))
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(visible, int(given)) if given.isdecimal() and int(given) > 0 else visible
