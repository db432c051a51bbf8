"""What the teacher and the distill stage share: data, ranks, loop, and the files of a trained network."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable

import torch
from torch import nn

from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore, open_store
from spikedistill.plan.stages import NetworkSpec
from spikedistill.stages.network_io import save_network
from spikedistill.stages.runner import StageJob
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Objective, Run, train
from spikedistill.train.tracking import METRICS, Tracker


def fit(
    spec: NetworkSpec,
    job: StageJob,
    make_model: Callable[[SampleStore], nn.Module],
    make_objective: Callable[[SampleStore, World], Objective],
) -> None:
    """Train the network of `spec` and write its weights and metrics into the artifact.

    Args:
        spec: teacher or student.
        job: inputs and outputs.
        make_model: gives the network with fresh weights, for the data.
        make_objective: gives the objective, for the data and the device of this rank.
    """
    options = job.options.engine
    with World.from_environment(datetime.timedelta(minutes=options.rank_timeout_minutes)) as world:
        data = open_store(job.inputs["data"])
        torch.manual_seed(spec.seed)
        model = make_model(data).to(world.device)
        loader = Loader(
            data,
            "train",
            batch_size=spec.train.batch_size,
            seed=spec.seed,
            inputs=spec.inputs,
            augment=spec.train.augment,
            shuffle=True,
            rank=world.rank,
            world_size=world.world_size,
            device=world.device,
        )
        metrics = job.work / METRICS
        board = job.options.results / "tensorboard" / spec.ref

        def open_tracker(start_epoch: int, start_step: int) -> Tracker:
            return Tracker(
                metrics,
                board,
                num_epochs=spec.train.epochs,
                start_epoch=start_epoch,
                steps_per_epoch=loader.steps_per_epoch,
                active=world.is_leader,
                start_step=start_step,
            )

        run = Run(
            model=model,
            objective=make_objective(data, world),
            loader=loader,
            settings=spec.train,
            seed=spec.seed,
            world=world,
            checkpoints=CheckpointFolder(job.work / "checkpoints", spec.id),
            open_tracker=open_tracker,
            options=options,
        )
        train(run)
        job.provenance.update(device=world.device_name, world_size=world.world_size)
        if world.is_leader:
            save_network(model, job.out)
            shutil.copyfile(metrics, job.out / METRICS)
