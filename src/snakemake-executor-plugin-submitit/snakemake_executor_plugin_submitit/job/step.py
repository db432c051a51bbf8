"""`python -m …step FOLDER ID`, in each task of a step, in a Slurm job shared with other jobs: start submitit's task.

Slurm's variables say which rank this is. submitit gets them as the variables of its local jobs, because those end with their
command, and neither requeue the Slurm job around them nor wait for its end.
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
