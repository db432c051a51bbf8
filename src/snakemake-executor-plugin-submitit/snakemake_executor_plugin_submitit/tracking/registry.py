"""Record on disk what this workflow has submitted, so that the next main process adopts jobs instead of resubmitting them.

There is one file per submission (a job or an array of jobs). It is written before sbatch is called, again once the job id is
known, and removed when the outcome of all its jobs has been reported to Snakemake.
"""

import contextlib
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.job.tasks import SUFFIX
from snakemake_executor_plugin_submitit.jsonfile import read_json, write_json
from snakemake_executor_plugin_submitit.private import FILE_MODE, is_ours, make_folder
from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder, done_marker, job_id_of

REPORTED = "settled"  # an empty file in the job's folder


@dataclass(frozen=True)
class Record:
    """One job of a submission.

    Attributes:
        name: the job's name.
        job_dir: path of its folder.
        outputs: absolute paths of its output files.
        digests: of what each job in it computes, see `adoption.digests_of`; empty if unknown, as in records of earlier versions.
    """

    name: str
    job_dir: str
    outputs: tuple[str, ...]
    digests: tuple[str, ...] = ()

    @property
    def is_reported(self) -> bool:
        """Return True if the outcome has been reported to Snakemake."""
        return (Path(self.job_dir) / REPORTED).exists()


@dataclass
class Submission:
    """One call of sbatch, or jobs queued together for a pool.

    Attributes:
        folder: submitit's folder.
        records: the jobs, in the order of the array's indices.
        is_array: True for a job array.
        job_id: id of the job or the array; None: the main process was killed before it was known.
        time: time of submission, in seconds since the epoch.
        uid: name of the registry's file.
        is_pool: True if the jobs are tickets of a pool, whose folder is `folder`; their workers are not recorded.
    """

    folder: str
    records: Sequence[Record]
    is_array: bool
    job_id: str | None = None
    time: float = field(default_factory=time.time)
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    is_pool: bool = False

    def job_id_of(self, record: Record) -> str | None:
        """Return the id of one job, even if only submitit recorded it, or None if it was never submitted."""
        if self.is_pool:
            worker = TicketFolder(Path(self.folder)).claimed().get(ticket_of(record))
            return None if worker is None else job_id_of(worker)
        return self._job_id(self.records.index(record))

    def job_ids(self) -> list[str | None]:
        """Return the ids of all jobs, in the order of the records; see `job_id_of`. Jobs in pools have none of their own."""
        return [None] * len(self.records) if self.is_pool else [self._job_id(index) for index in range(len(self.records))]

    def _job_id(self, index: int) -> str | None:
        if self.job_id is not None:
            return f"{self.job_id}_{index}" if self.is_array else self.job_id
        folder = Path(self.folder)
        if self.is_array and (array := next((path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")), None)):
            return f"{array}_{index}"
        pattern = f"*_{index}_submitted.pkl" if self.is_array else "*_submitted.pkl"
        return next((path.name.removesuffix("_submitted.pkl") for path in folder.glob(pattern)), None)


def ticket_of(record: Record) -> str:
    """Return the uid of the ticket of a job that was queued for a pool."""
    return done_marker(Path(record.job_dir))


class Registry:
    """Submissions whose outcome has not been reported to Snakemake yet."""

    def __init__(self, folder: Path) -> None:
        """Open the registry of a folder."""
        self._folder = folder / "registry"
        self._open: dict[str, set[str]] = {}

    def note(self, submission: Submission) -> None:
        """Write the current state of a submission to disk."""
        make_folder(self._folder)
        self._open[submission.uid] = {record.job_dir for record in submission.records}
        write_json(self._folder / f"{submission.uid}.json", asdict(submission))

    def forget(self, submission: Submission) -> None:
        """Remove a submission that Slurm refused."""
        self._open.pop(submission.uid, None)
        with contextlib.suppress(OSError):
            (self._folder / f"{submission.uid}.json").unlink()

    def mark_reported(self, submission: Submission, record: Record) -> None:
        """Record that the outcome of a job has been reported to Snakemake."""
        with contextlib.suppress(OSError):
            (Path(record.job_dir) / REPORTED).touch(FILE_MODE)
        left = self._open.get(submission.uid)
        if left is not None:
            left.discard(record.job_dir)
            if not left:
                self.forget(submission)

    def has_open(self) -> bool:
        """Return True if there are jobs, of this or an earlier main process, whose outcome has not been reported."""
        return any(self._open.values())

    def read(self) -> list[Submission]:
        """Return every submission on disk and change nothing."""
        submissions = map(_read_submission, self._files())
        return [each for each in submissions if each is not None]

    def load(self) -> list[tuple[Submission, Record]]:
        """Return the jobs that an earlier main process left behind, oldest first."""
        found = []
        for path in self._files():
            submission = _read_submission(path)
            if submission is None:
                continue
            records = submission.records
            open_records = [record for record in records if not record.is_reported]
            if not open_records:
                path.unlink(missing_ok=True)
                continue
            self._open[submission.uid] = {record.job_dir for record in open_records}
            found += [(submission, record) for record in open_records]
        return sorted(found, key=lambda pair: pair[0].time)

    def _files(self) -> list[Path]:
        """Return the file of every submission; none if somebody else could have written them."""
        if not self._folder.is_dir() or not is_ours(self._folder):
            return []
        return list(self._folder.glob("*.json"))


def _read_submission(path: Path) -> Submission | None:
    """Return the submission of a file, or None if it is damaged; then its jobs are submitted again."""
    content = read_json(path)
    try:
        records = [_read_record(each) for each in content.pop("records")]
        content.pop("cluster", None)  # written by earlier versions, always slurm
        return Submission(**content, records=records)
    except (AttributeError, KeyError, TypeError):
        return None


def _read_record(content: dict[str, Any]) -> Record:
    job_dir = content.get("job_dir") or content["place"]
    return Record(content["name"], job_dir, tuple(content["outputs"]), tuple(content.get("digests", ())))


class Leftovers:
    """Jobs of an earlier main process, by their outputs."""

    def __init__(self, jobs: Iterable[tuple[Submission, Record]]) -> None:
        """Index the jobs; if several write the same file, the newest counts."""
        self._by_output = {output: job for job in jobs for output in job[1].outputs}

    def producers_of(self, outputs: Sequence[str]) -> list[tuple[Submission, Record]]:
        """Return the jobs that write any of these files."""
        producers = (self._by_output[output] for output in outputs if output in self._by_output)
        return list({record.job_dir: (submission, record) for submission, record in producers}.values())

    def all(self) -> list[tuple[Submission, Record]]:
        """Return every job once."""
        return list({record.job_dir: (submission, record) for submission, record in self._by_output.values()}.values())

    def drop(self, record: Record) -> None:
        """Remove a job."""
        for output in record.outputs:
            if self._by_output.get(output, (None, None))[1] == record:
                del self._by_output[output]
