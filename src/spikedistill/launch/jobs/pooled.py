"""Jobs that share Slurm jobs, or processes here, in the pools of the executor: each has a ticket, and no id of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spikedistill.launch.jobs.job import Job

if TYPE_CHECKING:
    from snakemake_executor_plugin_submitit.tracking.registry import Record


def pooled_jobs(folder: Path, queued: Mapping[str, Job]) -> Iterator[tuple[Record, Job]]:
    """Yield the jobs in pools that wait, or that a job of Slurm's queue runs, with what the executor has recorded of them.

    Args:
        folder: a folder of submitit.
        queued: the jobs of Slurm's queue, by id.
    """
    from snakemake_executor_plugin_submitit.jsonfile import read_result
    from snakemake_executor_plugin_submitit.tracking.registry import Registry, ticket_of
    from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder, job_id_of

    for submission in Registry(folder).read():
        if not submission.is_pool:
            continue
        pool = Path(submission.folder)
        tickets = TicketFolder(pool)
        claimed, waiting = tickets.claimed(), tickets.waiting()
        for record in submission.records:
            ticket = ticket_of(record)
            worker = queued.get(job_id_of(claimed[ticket])) if ticket in claimed else None
            if worker is not None and read_result(Path(record.job_dir)) is None:
                yield record, replace(worker, cluster="pool", job_id=ticket, folder=pool)
            elif ticket in waiting:
                yield record, Job("pool", ticket, pool, "PENDING", reason="Resources")


def jobs_of_local_workers(folder: Path, workers: Mapping[str, Job]) -> Iterator[tuple[Path, Job]]:
    """Yield the jobs that processes of this machine run, with the folder of each. Those that wait end with the main process.

    Args:
        folder: a folder of submitit.
        workers: the jobs on this machine, by id.
    """
    from snakemake_executor_plugin_submitit.jsonfile import read_result
    from snakemake_executor_plugin_submitit.worker.tickets import POOLS, TicketFolder, job_dir_of, job_id_of

    for pool in sorted((folder / POOLS).glob("*")) if workers else ():
        tickets = TicketFolder(pool)
        for ticket, name in tickets.claimed().items():
            worker, job_dir = workers.get(job_id_of(name)), job_dir_of(folder, ticket)
            is_its = worker is not None and tickets.about(name).get("folder") == str(worker.folder)
            if worker is not None and is_its and read_result(job_dir) is None:
                yield job_dir, replace(worker, cluster="pool", job_id=ticket, folder=pool)


def end(job: Job) -> bool:
    """Take a job out of its pool, or have its worker stop it; return False if it had ended."""
    from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder

    tickets = TicketFolder(job.folder)
    return tickets.withdraw(job.job_id) or tickets.revoke(job.job_id)
