"""Jobs that are held in Slurm: release those that Slurm itself holds, tell the user how to release the others."""

from collections.abc import Iterable, Mapping

from snakemake_executor_plugin_submitit.submission import states

MAX_RELEASES = 3
BY_SLURM = ("launch failed requeued held",)  # a prolog failed, for example; the node is drained, another may work
BY_ADMIN = ("jobheldadmin",)


class HeldJobs:
    """Deal with held jobs, over all queries of a run."""

    def __init__(self) -> None:
        """Start without any."""
        self._releases: dict[str, int] = {}
        self._told: set[tuple[str, str]] = set()

    def handle(self, names: Mapping[str, str], answers: Mapping[str, states.State]) -> list[str]:
        """Release what may be released, and return what to tell the user.

        Args:
            names: names of the jobs, by id.
            answers: their states in Slurm.
        """
        held = {job_id: state for job_id in names if (state := answers.get(job_id)) is not None and state.is_held}
        told = []
        for reason in sorted({state.reason for state in held.values()}):
            job_ids = [job_id for job_id, state in held.items() if state.reason == reason]
            if _plain(reason) in BY_SLURM:
                again = [job_id for job_id in job_ids if self._releases.get(job_id, 0) < MAX_RELEASES]
                if again:
                    states.release(again)
                    told.append(f"held in Slurm's queue, reason {reason}: {_list(names, again)}; released")
                for job_id in again:
                    self._releases[job_id] = self._releases.get(job_id, 0) + 1
                job_ids = [job_id for job_id in job_ids if job_id not in again]
            new = [job_id for job_id in job_ids if (job_id, reason) not in self._told]
            self._told |= {(job_id, reason) for job_id in new}
            if new:
                who = "an administrator can release it" if _plain(reason) in BY_ADMIN else "to release it"
                command = f"scontrol release {','.join(new)}"
                told.append(f"held in Slurm's queue, reason {reason}: {_list(names, new)}; {who}: {command}")
        return told


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _list(names: Mapping[str, str], job_ids: Iterable[str]) -> str:
    return ", ".join(names[job_id] for job_id in job_ids)
