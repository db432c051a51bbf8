"""`python -m …start FOLDER`: start submitit's task of a job of one task, without loading numpy.

submitit loads numpy, if it is installed, in case the pickled task needs it. The tasks of this plugin start Snakemake in a process
of its own and do not need numpy.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import cast

from snakemake_executor_plugin_submitit.job.tasks import fetch_own_task


def main() -> None:
    """Run the task of the job folder that is named on the command line."""
    fetch_own_task(Path(sys.argv[1]))
    is_loaded = "numpy" in sys.modules
    if not is_loaded:
        sys.modules["numpy"] = cast("ModuleType", None)  # importing it fails
    from submitit.core._submit import submitit_main

    if not is_loaded:
        del sys.modules["numpy"]  # a worker may load it
    submitit_main()


if __name__ == "__main__":
    main()
