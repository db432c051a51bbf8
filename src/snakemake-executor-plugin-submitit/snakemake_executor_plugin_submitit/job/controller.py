"""`python -m …controller FOLDER`: submitit's controller of a job on this machine, without a traceback when it is told to end."""

import sys
from pathlib import Path

from submitit.local.local import Controller


def main() -> None:
    """Start the ranks of the job whose folder is named on the command line, and wait for them."""
    try:
        Controller(Path(sys.argv[1])).run()
    except KeyboardInterrupt:  # the main process cancels; the ranks have been ended
        sys.exit(130)


if __name__ == "__main__":
    main()
