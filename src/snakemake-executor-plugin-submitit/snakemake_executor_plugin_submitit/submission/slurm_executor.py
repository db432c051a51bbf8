"""submitit's executor for Slurm, with this plugin's call of sbatch, and files that are for their owner only."""

import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core import core, utils
from submitit.slurm.slurm import SlurmJob

from snakemake_executor_plugin_submitit.private import FILE_MODE, write_new
from snakemake_executor_plugin_submitit.submission.commands import RefusedError, sbatch


def _job_id(output: str) -> str:
    """Return the job's id; a site may have sbatch print other lines, with other numbers, before it."""
    found = re.findall(r"^(\d+)(?:;.*)?$", output, re.MULTILINE)
    if not found:
        raise RefusedError(f"sbatch printed no job id: {output.strip()!r}")
    return str(found[-1])


class PrivateSlurmExecutor(SlurmExecutor):
    """Submit as submitit does; an array, too."""

    def __init__(self, folder: Path, max_num_timeout: int, warn: Callable[[str], None]) -> None:
        """Set up for one submission.

        Args:
            folder: folder of submission files and logs.
            max_num_timeout: how often a job that reached its time limit is requeued.
            warn: tells the user that sbatch is slow.
        """
        super().__init__(folder=folder, max_num_timeout=max_num_timeout)
        self._warn = warn

    def _internal_process_submissions(self, delayed_submissions: Sequence[utils.DelayedSubmission]) -> list[core.Job[Any]]:
        pickles = []
        for delayed in delayed_submissions:
            delayed.set_timeout(self.parameters.get("time", 5), self.max_num_timeout)
            pickles.append(self.folder / f"{uuid.uuid4().hex}.pkl")
            pickles[-1].touch(FILE_MODE)  # submitit writes into it
            delayed.dump(pickles[-1])
        count = len(pickles)
        if count > 1:
            self.parameters["map_count"] = count
        first: core.Job[Any] = self._submit_command(self._submitit_command_str)
        tasks = list(range(first.num_tasks))
        ids = [first.job_id] if count == 1 else [f"{first.job_id}_{index}" for index in range(count)]
        jobs: list[core.Job[Any]] = [SlurmJob(folder=self.folder, job_id=job_id, tasks=tasks) for job_id in ids]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs

    def _submit_command(self, command: str) -> core.Job[Any]:
        uid = uuid.uuid4().hex
        script = self.folder / f".submission_file_{uid}.sh"
        write_new(script, self._make_submission_file_text(command, uid))
        job_id = _job_id(sbatch(["--parsable", str(script)], self._warn))
        job: core.Job[Any] = SlurmJob(folder=self.folder, job_id=job_id, tasks=list(range(self._num_tasks())))
        job.paths.move_temporary_file(script, "submission_file", keep_as_symlink=True)
        return job
