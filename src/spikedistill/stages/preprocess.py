"""Stage `preprocess`: turns raw data into one array with its index and split lists.

Rank 0 of a job prepares the data; the other ranks only help to decode images.
"""

from __future__ import annotations

import os
from pathlib import Path

from spikedistill import components
from spikedistill.data.formats.files import explained
from spikedistill.data.prepare.blocks.progress import PROGRESS
from spikedistill.data.prepare.blocks.session import Session, preparing
from spikedistill.data.prepare.images.helpers import serve
from spikedistill.plan.stages import PreprocessSpec
from spikedistill.stages.runner import StageJob
from spikedistill.store.lease import Followed, LeaseLostError, lease_path


def build(spec: PreprocessSpec, job: StageJob) -> None:
    """Prepare the dataset of `spec` into `job.out`; what an interrupted run has left in `job.work` is used.

    Raises:
        DataError: if the raw data is missing, incomplete or damaged.
    """
    scratch = job.work / "scratch"
    scratch.mkdir(exist_ok=True)
    if job.claim is None:
        _help(job, scratch)
        return
    world_size = job.provenance["world_size"] = int(os.environ.get("WORLD_SIZE", "1"))
    dataset = components.load("data.datasets", spec.dataset)
    params = dataset.Params.model_validate(spec.params)
    prepare = explained(dataset.prepare)
    with preparing(Session(0, world_size, job.claim.token, job.claim.check, job.work / PROGRESS)):
        prepare(params, raw=job.options.raw, out=job.out, work=scratch, num_workers=job.options.num_workers)


def _help(job: StageJob, scratch: Path) -> None:
    """Do the part of a rank other than 0."""
    try:
        claim = Followed(lease_path(job.work))
    except LeaseLostError:  # rank 0 has finished meanwhile
        return
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with preparing(Session(rank, world_size, claim.token, claim.check)):
        serve(scratch, job.options.num_workers)
