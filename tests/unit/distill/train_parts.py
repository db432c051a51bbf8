"""Small training runs of methods with trainable parts, as ranks that the tests start. Usage: train_parts.py FOLDER.

Each case of FOLDER/cases.json, name -> options of `run_training`, writes FOLDER/NAME/weights.pt, with the trained student and its
parts, and losses.json.
"""

import datetime
import json
import sys
from pathlib import Path

import torch

from spikedistill import components
from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.loader import Loader
from spikedistill.models import build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.distill import Distillation
from spikedistill.stages.method_parts import add_parts
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Run, train
from spikedistill.train.settings import EngineConfig, TrainConfig
from spikedistill.train.tracking import Tracker
from tests.unit.train.rank import CLASSES, STEPS, InDouble, store


def networks(method, params, backward):
    """Return spec, student with parts, and teacher, of other widths and of one stage more."""
    recipe = TrainConfig(epochs=1, batch_size=8)
    spec = DistillSpec.model_construct(method=method, params=params, seed=3, time_steps=STEPS, train=recipe)
    torch.manual_seed(0)
    neuron = NeuronConfig(threshold=0.3)
    kinds = {"num_classes": len(CLASSES), "in_channels": 1}
    student = build_student("resnet8", **kinds, time_steps=STEPS, neuron=neuron, backward=backward)
    teacher = build_teacher("resnet18", **kinds).requires_grad_(False).eval()
    module = components.load("distill", method)
    student.returns_stages = "stages" in module.needs(module.Params(**params))
    add_parts(student, teacher, spec, torch.zeros(1, 1, 8, 8))
    return spec, student, teacher


class Stopping:
    """An objective that stops the process as a signal would, at a given call."""

    def __init__(self, objective, at):
        self.objective, self.left = objective, at
        self.prepare = objective.prepare

    def __call__(self, outputs, batch):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.objective(outputs, batch)


def run_training(folder, world, *, method, params=None, backward="bptt", epochs=2, double=True, at=-1, pieces=None, **engine):
    """Train; with `pieces`, a batch is cut into so many, over ranks and steps of accumulation, each normalised by itself."""
    spec, student, teacher = networks(method, params or {}, backward)
    loader = Loader(
        store(),
        "train",
        batch_size=8,
        seed=3,
        augment=Augment(crop_padding=1),
        shuffle=True,
        rank=world.rank,
        world_size=world.world_size,
    )
    if double:
        loader = InDouble(loader)
        student.double()
        teacher.double()
    main = world.is_main_process
    tracker = Tracker(
        folder / "metrics.jsonl",
        folder / "tensorboard",
        num_epochs=epochs,
        steps_per_epoch=loader.steps_per_epoch,
        active=main,
        interval_s=0,
    )
    run = Run(
        model=student,
        objective=Stopping(Distillation(spec, teacher, student), at),
        loader=loader,
        config=TrainConfig(epochs=epochs, batch_size=8, lr=0.05, sync_batchnorm=pieces is None),
        seed=3,
        world=world,
        checkpoints=CheckpointFolder(folder / "checkpoints", "run"),
        tracker=tracker,
        engine=EngineConfig(accumulate=pieces // world.world_size if pieces else 1, **engine),
    )
    train(run)
    if main:
        torch.save(student.state_dict(), folder / "weights.pt")
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        (folder / "losses.json").write_text(json.dumps([record["train/loss"] for record in records]))
    return student


def main():
    folder = Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    torch.set_num_threads(1)
    with World.from_environment(datetime.timedelta(seconds=60)) as world:
        for name, options in cases.items():
            (folder / name).mkdir(exist_ok=True)
            run_training(folder / name, world, **options)


if __name__ == "__main__":
    main()
