"""Stage `evaluate`: prepared data and a trained network in, its figures on the test split out."""

from __future__ import annotations

import json

from spikedistill.artifacts import MANIFEST
from spikedistill.data.loader import Loader
from spikedistill.data.store import open_store
from spikedistill.evaluate.accuracy import evaluate
from spikedistill.plan import EvaluateSpec, TeacherSpec
from spikedistill.stages.networks import load_network, read_model_spec
from spikedistill.stages.runner import StageJob
from spikedistill.train.distributed import World

BATCH_SIZE = 256


def build(spec: EvaluateSpec, job: StageJob) -> None:
    """Write evaluation.json."""
    with World.from_environment() as world:
        data = open_store(job.inputs["data"])
        model_spec = read_model_spec(job.inputs["model"] / MANIFEST)
        network = load_network(model_spec, data, job.inputs["model"]).to(world.device)
        loader = Loader(
            data,
            "test",
            batch_size=BATCH_SIZE,
            inputs=model_spec.inputs,
            rank=world.rank,
            world_size=world.world_size,
            device=world.device,
        )
        role = "teacher" if isinstance(model_spec, TeacherSpec) else "student"
        result = {"role": role, **evaluate(network, loader, world, class_names=data.class_names)}
        job.provenance.update(device=world.device_name, world_size=world.world_size)
        if world.is_leader:
            (job.out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
