"""What this workflow has submitted, on disk, so that the next main process adopts jobs instead of submitting them twice.

One file for each submission (a job, or an array of jobs): written before sbatch is called, again when the job id is known,
removed when Snakemake has been told the outcome of all its jobs.
"""

import contextlib
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from snakemake_executor_plugin_submitit.jsonfile import read_json, write_json

SETTLED = "settled"


@dataclass(frozen=True)
class Record:
    """One job of a submission.

    Attributes:
        name: of the job.
        place: its folder.
        outputs: absolute paths of what it makes.
    """

    name: str
    place: str
    outputs: tuple[str, ...]

    @property
    def is_settled(self) -> bool:
        """Whether Snakemake was told the outcome."""
        return (Path(self.place) / SETTLED).exists()


@dataclass
class Submission:
    """One call of sbatch.

    Attributes:
        folder: submitit's folder.
        records: the jobs, in the order of the array's indices.
        is_array: whether it is a job array.
        job_id: of the job or the array; None: killed before that was known.
        time: when, in seconds of the clock.
        uid: names the file.
    """

    folder: str
    records: Sequence[Record]
    is_array: bool
    job_id: str | None = None
    time: float = field(default_factory=time.time)
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)

    def job_id_of(self, record: Record) -> str | None:
        """The id of one job, also where only submitit noted it; None when it was never submitted."""
        index = self.records.index(record)
        if self.job_id is not None:
            return f"{self.job_id}_{index}" if self.is_array else self.job_id
        pattern = f"*_{index}_submitted.pkl" if self.is_array else "*_submitted.pkl"
        return next((p.name.removesuffix("_submitted.pkl") for p in Path(self.folder).glob(pattern)), None)


class Registry:
    """The submissions of a workflow that Snakemake has not been told the end of."""

    def __init__(self, folder: Path) -> None:
        """Open the registry of a folder."""
        self._folder = folder / "registry"
        self._open: dict[str, set[str]] = {}

    def note(self, submission: Submission) -> None:
        """Write a submission down, as it stands."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open[submission.uid] = {record.place for record in submission.records}
        write_json(self._folder / f"{submission.uid}.json", asdict(submission))

    def forget(self, submission: Submission) -> None:
        """Remove a submission that Slurm refused."""
        self._open.pop(submission.uid, None)
        with contextlib.suppress(OSError):
            (self._folder / f"{submission.uid}.json").unlink()

    def settle(self, submission: Submission, record: Record) -> None:
        """Note that Snakemake was told the outcome of a job."""
        with contextlib.suppress(OSError):
            (Path(record.place) / SETTLED).touch()
        left = self._open.get(submission.uid)
        if left is not None:
            left.discard(record.place)
            if not left:
                self.forget(submission)

    def load(self) -> list[tuple[Submission, Record]]:
        """The jobs that a former main process left behind, oldest first."""
        found = []
        for path in self._folder.glob("*.json"):
            content = read_json(path)
            if content is None:
                continue
            records = [Record(r["name"], r["place"], tuple(r["outputs"])) for r in content.pop("records")]
            content.pop("cluster", None)  # of former versions, always slurm
            submission = Submission(**content, records=records)
            open_records = [record for record in records if not record.is_settled]
            if not open_records:
                path.unlink(missing_ok=True)
                continue
            self._open[submission.uid] = {record.place for record in open_records}
            found += [(submission, record) for record in open_records]
        return sorted(found, key=lambda pair: pair[0].time)


class Leftovers:
    """Jobs of a former main process, by what they make."""

    def __init__(self, jobs: Iterable[tuple[Submission, Record]]) -> None:
        """Index the jobs; of several that make the same file the newest counts."""
        self._by_output = {output: job for job in jobs for output in job[1].outputs}

    def makers(self, outputs: Sequence[str]) -> list[tuple[Submission, Record]]:
        """The jobs that make any of these files."""
        makers = (self._by_output[output] for output in outputs if output in self._by_output)
        return list({record.place: (submission, record) for submission, record in makers}.values())

    def all(self) -> list[tuple[Submission, Record]]:
        """Every job once."""
        return list({record.place: (submission, record) for submission, record in self._by_output.values()}.values())

    def drop(self, record: Record) -> None:
        """Forget a job."""
        for output in record.outputs:
            if self._by_output.get(output, (None, None))[1] == record:
                del self._by_output[output]
