"""Jobs in pools, as `status` and `cancel` find them."""

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_submitit.pool.pools import Pools
from snakemake_executor_plugin_submitit.request.pooling import PoolSize
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.tracking.cancelled import is_cancelled
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission
from spikedistill.launch.jobs.cancel import cancel
from spikedistill.launch.jobs.find import Found
from spikedistill.launch.jobs.job import Job
from spikedistill.launch.jobs.pooled import pooled_jobs


@pytest.fixture
def tickets(tmp_path):
    """Two evaluations in a pool, of which worker 7 runs the first."""
    pools = Pools(tmp_path, tmp_path / "ended", cluster="slurm", preload=())
    jobs = [pools.new_job(f"evaluate.{name}", Request(), PoolSize(1)) for name in "ab"]
    folder = jobs[0].tickets.folder
    records = [Record(job.name, str(job.folder), (f"/store/{job.name}",)) for job in jobs]
    Registry(tmp_path).note(Submission(str(folder), records, is_array=False, is_pool=True))
    for job in jobs:
        pools.put(job, "true")
    jobs[0].tickets.enter("7.0", {})
    jobs[0].tickets.claim("7.0", lambda ticket: True)
    return jobs[0].tickets


WORKER = Job("slurm", "7", Path("/pool.evaluate"), "RUNNING", nodes="node1", elapsed_s=9.0)


def found(root, queued):
    return {record.name: job for record, job in pooled_jobs(root, queued)}


def test_a_job_that_a_worker_has_is_where_the_worker_is_and_one_that_waits_is_pending(tickets, tmp_path):
    jobs = found(tmp_path, {"7": WORKER})
    assert (jobs["evaluate.a"].state, jobs["evaluate.a"].nodes, str(jobs["evaluate.a"])) == ("RUNNING", "node1", "in a pool")
    assert jobs["evaluate.b"].is_pending
    assert len({job.job_id for job in jobs.values()} - {"7"}) == 2


def test_a_job_that_has_ended_or_whose_worker_is_gone_is_not_found(tickets, tmp_path):
    assert found(tmp_path, {}).keys() == {"evaluate.b"}
    next(tmp_path.glob("evaluate.a/latest")).joinpath("result.json").write_text('{"status": 0}')
    assert found(tmp_path, {"7": WORKER}).keys() == {"evaluate.b"}


def test_cancelling_takes_one_out_of_the_queue_and_stops_the_other_but_not_their_worker(tickets, tmp_path):
    pairs = list(pooled_jobs(tmp_path, {"7": replace(WORKER)}))
    outcome = cancel(Found(job, record.name, Path(record.job_dir), ()) for record, job in pairs)
    assert outcome.problems == []
    assert sorted(outcome.ended) == ["evaluate.a, in a pool", "evaluate.b, in a pool"]
    assert tickets.waiting() == tickets.claimed() == {}
    assert all(is_cancelled(Path(record.job_dir)) for record, _ in pairs)
