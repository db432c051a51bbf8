"""Stage `evaluate`: measures a trained network on the test split."""

from __future__ import annotations

import datetime
import json

import numpy as np

from spikedistill.data.store import open_store
from spikedistill.evaluate.batches import evaluation_loader
from spikedistill.evaluate.measure import measure, measure_robustness
from spikedistill.evaluate.pictures import write_examples
from spikedistill.evaluate.settings import EVALUATION, PREDICTIONS, CorruptionConfig
from spikedistill.plan.stages import EvaluateSpec
from spikedistill.stages.network_io import load_network, read_model_spec
from spikedistill.stages.runner import StageJob
from spikedistill.train.distributed import World
from spikedistill.train.validation import ACCURACY, LOSS, validate

SCHEMA = 2


def build(spec: EvaluateSpec, job: StageJob) -> None:
    """Write evaluation.json, the predictions, and a few test samples with the network's saliency maps."""
    timeout = datetime.timedelta(minutes=job.options.engine.rank_timeout_minutes)
    with World.from_environment(timeout, gpus=job.options.gpus) as world:
        model_spec = read_model_spec(job.inputs["model"])
        data = open_store(job.inputs["data"]).with_validation(model_spec.validation)
        network = load_network(model_spec, data, job.inputs["model"]).to(world.device)
        teacher = None
        if "teacher" in job.inputs:
            teacher = load_network(read_model_spec(job.inputs["teacher"]), data, job.inputs["teacher"]).to(world.device)
        loader = evaluation_loader(data, "test", model_spec.inputs, world)
        metrics, predictions = measure(
            network, loader, world, num_classes=data.num_classes, energy=spec.settings.energy, teacher=teacher
        )
        corruptions = spec.settings.corruptions
        if corruptions != CorruptionConfig():
            metrics["robustness"] = measure_robustness(network, data, "test", model_spec.inputs, world, corruptions)
        if model_spec.validation:
            held_out = validate(network, evaluation_loader(data, "validation", model_spec.inputs, world), world)
            metrics["validation"] = {"accuracy": held_out[ACCURACY] / 100, "loss": held_out[LOSS]}
        job.provenance.update(device=world.device_name, world_size=world.world_size)
        if world.is_main_process:
            about = {"schema": SCHEMA, "role": model_spec.role, "class_names": list(data.class_names)}
            (job.out / EVALUATION).write_text(json.dumps(about | metrics, indent=1) + "\n", encoding="utf-8")
            np.savez_compressed(job.out / PREDICTIONS, prediction=predictions["prediction"], label=predictions["label"])
            write_examples(network, data, model_spec.inputs, world.device, job.out)
