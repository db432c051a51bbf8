"""submitit's executor for Slurm, with this plugin's call of sbatch, and private files."""

import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from snakemake_interface_common.exceptions import WorkflowError
from submitit import SlurmExecutor
from submitit.core import core, utils
from submitit.slurm.slurm import SlurmJob

from snakemake_executor_plugin_submitit.job.tasks import SUFFIX, write_tasks
from snakemake_executor_plugin_submitit.private import FILE_MODE, write_new
from snakemake_executor_plugin_submitit.request.resources import Request, slurm_parameters
from snakemake_executor_plugin_submitit.submission.commands import RefusedError, restored_options, sbatch

PATTERN_SIGNS = ("%", "\\", "\n")  # Slurm and submitit interpret these in the name of a log


def _job_id(output: str) -> str:
    """Return the job's id; a site may have sbatch print other lines, with other numbers, before it."""
    found = re.findall(r"^(\d+)(?:;.*)?$", output, re.MULTILINE)
    if not found:
        raise RefusedError(f"sbatch printed no job id: {output.strip()!r}")
    return str(found[-1])


class PrivateSlurmExecutor(SlurmExecutor):
    """Submit as submitit does, single jobs and arrays."""

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
        for delayed in delayed_submissions:
            delayed.set_timeout(self.parameters.get("time", 5), self.max_num_timeout)
        count = len(delayed_submissions)
        if count > 1 and self._num_tasks() == 1:
            return self._submit_in_one_file(delayed_submissions)
        pickles = []
        for delayed in delayed_submissions:
            pickles.append(self.folder / f"{uuid.uuid4().hex}.pkl")
            pickles[-1].touch(FILE_MODE)  # submitit writes into it
            delayed.dump(pickles[-1])
        if count > 1:
            self.parameters["map_count"] = count
        first: core.Job[Any] = self._submit_command(self._submitit_command_str)
        tasks = list(range(first.num_tasks))
        ids = [first.job_id] if count == 1 else [f"{first.job_id}_{index}" for index in range(count)]
        jobs: list[core.Job[Any]] = [SlurmJob(folder=self.folder, job_id=job_id, tasks=tasks) for job_id in ids]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs

    def _submit_in_one_file(self, delayed_submissions: Sequence[utils.DelayedSubmission]) -> list[core.Job[Any]]:
        """Submit an array of single-task jobs; `job.start` fetches each task from one common file."""
        temporary = self.folder / f"{uuid.uuid4().hex}.pkl"
        write_tasks(temporary, [cloudpickle.dumps(delayed) for delayed in delayed_submissions])
        self.parameters["map_count"] = len(delayed_submissions)
        array: core.Job[Any] = self._submit_command(self._submitit_command_str)
        temporary.rename(self.folder / f"{array.job_id}{SUFFIX}")
        ids = [f"{array.job_id}_{index}" for index in range(len(delayed_submissions))]
        return [SlurmJob(folder=self.folder, job_id=job_id, tasks=[0]) for job_id in ids]

    @property
    def script(self) -> str:
        """Return the batch script of a submission."""
        return str(self._make_submission_file_text(self._submitit_command_str, ""))

    def _submit_command(self, command: str) -> core.Job[Any]:
        uid = uuid.uuid4().hex
        script = self.folder / f".submission_file_{uid}.sh"
        write_new(script, self._make_submission_file_text(command, uid))
        job_id = _job_id(sbatch(["--parsable", str(script)], self._warn))
        job: core.Job[Any] = SlurmJob(folder=self.folder, job_id=job_id, tasks=list(range(self._num_tasks())))
        job.paths.move_temporary_file(script, "submission_file", keep_as_symlink=True)
        return job


def slurm_executor(
    folder: Path, request: Request, *, name: str, comment: str = "", count: int = 1, warn: Callable[[str], None] = print
) -> PrivateSlurmExecutor:
    """Return the executor of one submission; nothing is written yet.

    Args:
        folder: folder of submission files and logs.
        request: the resources of each job.
        name: name shown by squeue.
        comment: comment stored in Slurm's accounting.
        count: number of jobs.
        warn: tells the user that sbatch is slow.

    Raises:
        WorkflowError: if Slurm is not on this machine, or cannot write logs into the folder.
    """
    try:
        executor = PrivateSlurmExecutor(literal_folder(folder), request.max_requeues, warn)
    except RuntimeError as err:
        raise WorkflowError(f"Slurm's sbatch is not on this machine ({err}); use cluster local, or a login node") from err
    parameters = slurm_parameters(request, name=name, comment=comment, folder=folder)
    parameters["setup"] = [*restored_options(), *parameters.get("setup", ())]
    executor.update_parameters(**parameters, array_parallelism=count)
    return executor


def literal_folder(folder: Path) -> Path:
    """Return the folder, or raise an error if submitit and Slurm would see a pattern in its name."""
    found = [sign for sign in PATTERN_SIGNS if sign in str(folder)]
    if found:
        raise WorkflowError(f"{folder}: Slurm cannot write logs to a path with {found[0]!r}; use another --submitit-folder")
    return folder
