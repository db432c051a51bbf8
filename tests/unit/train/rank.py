"""One rank of a small training run, as a process of its own; the tests start, kill and restart it.

Usage: rank.py FOLDER TASK [KEY=VALUE ...]. RANK, WORLD_SIZE … come from the environment. Writes FOLDER/weights.pt
(task train) or FOLDER/evaluation-RANK.json (task evaluate).
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikedistill.data.augment import Augment
from spikedistill.data.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.errors import TrainingError
from spikedistill.evaluate.measure import measure
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.models import Outputs, build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Run, train
from spikedistill.train.settings import TrainConfig
from spikedistill.train.tracking import Tracker

NUM_SAMPLES = 37
CLASSES = ("a", "b", "c")


def store():
    """Noise whose brightness depends on the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(NUM_SAMPLES) % len(CLASSES)
    noise = generator.integers(0, 120, (NUM_SAMPLES, 1, 8, 8))
    samples = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    rows = np.arange(NUM_SAMPLES)
    return SampleStore("images", samples, labels, {"train": rows, "test": rows}, CLASSES, (0.5,), (0.25,))


class Linear(nn.Module):
    """Without batch statistics, so that the number of ranks changes nothing but rounding."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, len(CLASSES))

    def forward(self, x):
        return Outputs(self.layer(x.flatten(1))[None], x)


def build(kind):
    torch.manual_seed(0)
    if kind == "linear":
        return Linear()
    return build_student("resnet8", num_classes=len(CLASSES), in_channels=1, time_steps=2, neuron=NeuronConfig())


class Objective:
    """Cross-entropy that, at a given call, kills this process or returns NaN."""

    def __init__(self, *, kill_at=-1, nan_at=-1):
        self.calls, self.kill_at, self.nan_at = 0, kill_at, nan_at

    def __call__(self, outputs, batch):
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = per_step_cross_entropy(outputs.logits, batch.labels)
        return {"ce": loss * float("nan") if self.calls == self.nan_at else loss}


def run_training(
    folder,
    world,
    *,
    model="student",
    epochs=4,
    kill_at=-1,
    nan_at=-1,
    nan_rank=0,
    precision="float32",
    sync_batchnorm=False,
):
    network = build(model)
    settings = TrainConfig(
        epochs=epochs,
        batch_size=8,
        lr=0.05,
        warmup_epochs=1,
        precision=precision,
        sync_batchnorm=sync_batchnorm,
        augment=Augment(crop_padding=1),
    )
    loader = Loader(
        store(),
        "train",
        batch_size=settings.batch_size,
        seed=3,
        augment=settings.augment,
        shuffle=True,
        rank=world.rank,
        world_size=world.world_size,
    )

    def open_tracker(start_epoch):
        return Tracker(
            folder / "metrics.jsonl",
            folder / "board",
            num_epochs=epochs,
            start_epoch=start_epoch,
            active=world.is_leader,
            interval_s=0,
        )

    objective = Objective(kill_at=kill_at, nan_at=nan_at if world.rank == nan_rank else -1)
    train(Run(network, objective, loader, settings, world, CheckpointFolder(folder / "checkpoints", "run"), open_tracker))
    return network


def run_evaluation(world):
    data = store()
    loader = Loader(data, "test", batch_size=8, rank=world.rank, world_size=world.world_size)
    torch.manual_seed(0)
    neuron = NeuronConfig(threshold=0.05)  # low, so that untrained layers fire
    model = build_student("resnet8", num_classes=len(CLASSES), in_channels=1, time_steps=2, neuron=neuron)
    teacher = build_teacher("resnet8", num_classes=len(CLASSES), in_channels=1)
    figures = measure(model, loader, world, num_classes=len(CLASSES), energy=EnergyConfig(), teacher=teacher.eval())
    return figures | {"timing": None}


def main():
    folder, task = Path(sys.argv[1]), sys.argv[2]
    options = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in sys.argv[3:])}
    torch.set_num_threads(1)
    with World.from_environment() as world:
        if task == "evaluate":
            (folder / f"evaluation-{world.rank}.json").write_text(json.dumps(run_evaluation(world)))
            return
        try:
            network = run_training(folder, world, **options)
        except TrainingError as err:
            sys.exit(f"TrainingError: {err}")
        if world.is_leader:
            torch.save(network.state_dict(), folder / "weights.pt")


if __name__ == "__main__":
    main()
