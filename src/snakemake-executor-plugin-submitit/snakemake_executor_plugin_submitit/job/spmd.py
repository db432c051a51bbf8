"""`spmd CMD ARG…`: run a command on every rank of a job (single program, multiple data).

In a job of many ranks, submitted by this plugin, rank 0 publishes the command and every rank runs it with its own RANK,
LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. If one fails, all are stopped. Anywhere else `spmd CMD` is just CMD.
"""

import os
import sys

from snakemake_executor_plugin_submitit.job import ranks


def main() -> int:
    """Run the command line; return the exit status, unless the command replaces this process."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    me = ranks.Member.from_environment()
    if me is not None and me.world_size > 1 and me.rank == 0 and "RANK" not in os.environ:
        return ranks.lead(me, argv)
    try:
        os.execvp(argv[0], argv)
    except OSError as err:
        print(f"spmd: cannot run {argv[0]!r}: {err.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
