"""Stage `preprocess`: turns raw data into one array with its index and split lists."""

from __future__ import annotations

from spikedistill import components
from spikedistill.data.formats.files import explained
from spikedistill.plan.stages import PreprocessSpec
from spikedistill.stages.runner import StageJob


def build(spec: PreprocessSpec, job: StageJob) -> None:
    """Prepare the dataset of `spec` into `job.out`.

    Raises:
        DataError: if the raw data is missing, incomplete or damaged.
    """
    dataset = components.load("data.datasets", spec.dataset)
    scratch = job.work / "scratch"
    scratch.mkdir(exist_ok=True)
    params = dataset.Params.model_validate(spec.params)
    prepare = explained(dataset.prepare)
    prepare(params, raw=job.options.raw, out=job.out, work=scratch, num_workers=job.options.num_workers)
