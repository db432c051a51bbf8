"""The common part of the stages `teacher` and `distill`: ranks and data before training, the network's files after it.

Of this, an imported network uses only the part that writes its files.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.mixing import Mixing
from spikedistill.data.store import SampleStore, open_store
from spikedistill.evaluate.batches import evaluation_loader
from spikedistill.plan.stages import NetworkSpec
from spikedistill.stages.imports import load_into
from spikedistill.stages.network_io import build_network, save_network
from spikedistill.stages.runner import StageJob
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Objective, Run, train
from spikedistill.train.settings import TrainConfig
from spikedistill.train.tracking import METRICS, Tracker


@dataclass(frozen=True)
class TrainingSetup:
    """The open resources of a training stage on one rank.

    Attributes:
        spec: the teacher or student to train.
        train: its recipe.
        job: inputs and outputs of the stage.
        world: the ranks.
        data: the prepared dataset.
        loader: its training split, in training order.
        validation: its validation split, in evaluation batches; None if nothing is held out.
    """

    spec: NetworkSpec
    train: TrainConfig
    job: StageJob
    world: World
    data: SampleStore
    loader: Loader
    validation: Loader | None


@contextlib.contextmanager
def open_training(spec: NetworkSpec, job: StageJob) -> Iterator[TrainingSetup]:
    """Join the process group and open the prepared data, for the block.

    Raises:
        ConfigError: if the ranks' environment is incomplete, or the batch size does not fit the ranks or the data.
        TrainingError: if the ranks do not meet, or lose contact within the block.
    """
    assert spec.train is not None, "a network without a recipe is imported"
    timeout = datetime.timedelta(minutes=job.options.engine.rank_timeout_minutes)
    with World.from_environment(timeout, gpus=job.options.gpus) as world:
        data = open_store(job.inputs["data"]).with_validation(spec.validation).with_train_samples(spec.train_samples)
        loader = Loader(
            data,
            "train",
            batch_size=spec.train.batch_size,
            seed=spec.seed,
            inputs=spec.inputs,
            augment=spec.train.augment,
            mixing=_mixing(spec.train),
            shuffle=True,
            chunked=spec.train.chunked_shuffle,
            rank=world.rank,
            world_size=world.world_size,
            device=world.device,
        )
        validation = evaluation_loader(data, "validation", spec.inputs, world) if spec.validation else None
        yield TrainingSetup(spec, spec.train, job, world, data, loader, validation)


def _mixing(train: TrainConfig) -> Mixing | None:
    return Mixing(train.mixup, train.cutmix, train.mix_probability) if train.mixes else None


def train_and_save(setup: TrainingSetup, model: nn.Module, objective: Objective) -> None:
    """Train a network; then write its weights and metrics into the artifact, on the main process.

    Args:
        setup: as `open_training` yields it.
        model: the network with its initial weights, on the device of `setup.world`.
        objective: the loss to minimise.
    """
    spec, job, world = setup.spec, setup.job, setup.world
    metrics = job.work / METRICS
    tracker = Tracker(
        metrics,
        job.options.results / "tensorboard" / spec.ref,
        num_epochs=setup.train.epochs,
        steps_per_epoch=setup.loader.steps_per_epoch,
        active=world.is_main_process,
    )
    run = Run(
        model=model,
        objective=objective,
        loader=setup.loader,
        config=setup.train,
        seed=spec.seed,
        world=world,
        checkpoints=CheckpointFolder(job.work / "checkpoints", spec.id, fence=None if job.claim is None else job.claim.check),
        tracker=tracker,
        validation=setup.validation,
        engine=job.options.engine,
    )
    train(run)
    job.provenance.update(device=world.device_name, world_size=world.world_size)
    if world.is_main_process:
        save_network(model, job.out)
        shutil.copyfile(metrics, job.out / METRICS)


def import_and_save(spec: NetworkSpec, job: StageJob) -> None:
    """Write a network with the weights of its checkpoint into the artifact, on the main process.

    Raises:
        ConfigError: if the checkpoint does not fit the network, or the network the dataset.
    """
    if int(os.environ.get("RANK", "0")) != 0:  # nothing is computed, so the ranks do not meet
        return
    data = open_store(job.inputs["data"]).with_validation(spec.validation)
    network = build_network(spec, data)
    load_into(network, spec, job, data)
    save_network(network, job.out)
