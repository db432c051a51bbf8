"""How the last attempt at a stage ended, by what its job left in its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikedistill.plan.stages import Spec

_RANK_LOG = re.compile(r"_(\d+)_log\.out$")


@dataclass(frozen=True)
class Attempt:
    """The newest job of a stage.

    Attributes:
        folder: the job's folder, with its logs.
        result: what it left at its end: `status`, `host`, and why it failed; None if it was stopped, or still runs.
        is_cancelled: whether `spikedistill cancel` ended it.
    """

    folder: Path
    result: dict[str, Any] | None
    is_cancelled: bool

    @property
    def has_failed(self) -> bool:
        """Return whether it ended by itself, with an error."""
        return self.result is not None and self.result["status"] != 0

    def rank_logs(self) -> dict[int, Path]:
        """Return the log of each rank, by its number; of several jobs in one folder, those of the last."""
        found = [(int(match[1]), log) for log in sorted(self.folder.glob("*_log.out")) if (match := _RANK_LOG.search(log.name))]
        return dict(sorted(found))


def job_names(spec: Spec) -> tuple[str, str]:
    """Return what the jobs of a stage are called: by its rule, and by `spikedistill submit`."""
    from snakemake_executor_plugin_submitit.submission.submit import safe_name

    name = Path(spec.ref).name
    return safe_name(f"{spec.stage}.{name}"), safe_name(name)


class Attempts:
    """Looks up last attempts in folders of submitit, whose entries it lists once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """List the folders."""
        self._entries: list[tuple[Path, set[str]]] = []
        for folder in folders:
            try:
                self._entries.append((folder, {entry.name for entry in folder.iterdir()}))
            except OSError:
                continue

    def last(self, spec: Spec) -> Attempt | None:
        """Return the last attempt at a stage; None if there was none from this working directory."""
        from snakemake_executor_plugin_submitit.jsonfile import read_result
        from snakemake_executor_plugin_submitit.tracking.cancelled import is_cancelled

        names = job_names(spec)
        links = [folder / name / "latest" for folder, there in self._entries for name in names if name in there]
        folders = []
        for link in links:
            try:
                folders.append(link.parent / link.readlink())
            except OSError:
                continue
        if not folders:
            return None
        newest = max(folders, key=lambda folder: folder.name)  # names are times
        return Attempt(newest, read_result(newest), is_cancelled(newest))
