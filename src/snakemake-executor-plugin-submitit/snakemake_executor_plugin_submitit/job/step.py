"""`python -m …step FOLDER ID`, as a task of a step in a Slurm job that others share: start submitit's task there.

Slurm's variables say who this rank is. submitit is told so by the variables of its local jobs: the end of those is that of their
command, and they neither requeue the Slurm job around them nor wait for its end.
"""

import os
import sys

from snakemake_executor_plugin_submitit.job import start

NAMES = {
    "SUBMITIT_LOCAL_NTASKS": "SLURM_STEP_NUM_TASKS",
    "SUBMITIT_LOCAL_JOB_NUM_NODES": "SLURM_STEP_NUM_NODES",
    "SUBMITIT_LOCAL_NODEID": "SLURM_NODEID",
    "SUBMITIT_LOCAL_GLOBALID": "SLURM_PROCID",
    "SUBMITIT_LOCAL_LOCALID": "SLURM_LOCALID",
}


def main() -> None:
    """Run the task of the job whose folder and id are named on the command line."""
    os.environ |= {ours: os.environ[theirs] for ours, theirs in NAMES.items()}
    os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": sys.argv.pop()}
    start.main()


if __name__ == "__main__":
    main()
