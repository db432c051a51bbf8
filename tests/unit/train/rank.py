"""The ranks of a small training run, as separate processes that the tests start, stop, kill and restart.

Usage: rank.py FOLDER TASK [KEY=VALUE ...]. RANK, WORLD_SIZE … come from the environment.

train      writes FOLDER/weights.pt
cases      trains once for each of the options in FOLDER/cases.json, by name; writes FOLDER/NAME/weights.pt
evaluate   writes FOLDER/evaluation-RANK.json
torture    is not a rank itself: starts `ranks` of them, kills them `kills` times at random moments, then lets them finish
"""

import dataclasses
import datetime
import functools
import importlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - so that forked ranks need not import it

from spikedistill.data.formats.arrays import open_array
from spikedistill.data.loading import loader as loading
from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.mixing import Mixing
from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.store import SampleStore
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.errors import ConfigError, TrainingError
from spikedistill.evaluate.measure import measure, measure_robustness
from spikedistill.evaluate.settings import CorruptionConfig, EnergyConfig
from spikedistill.models import ModelOutput, add_exits, build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.distill import Distillation
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Run, train
from spikedistill.train.interrupt import Interrupted
from spikedistill.train.settings import EngineConfig, TrainConfig
from spikedistill.train.tracking import Tracker

NUM_SAMPLES = 37
CLASSES = ("a", "b", "c")
STEPS = 2  # time steps, and event frames


def store(kind="images"):
    """Make a dataset of noise whose brightness depends on the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(NUM_SAMPLES) % len(CLASSES)
    shape = (1, 8, 8) if kind == "images" else (STEPS, 2, 8, 8)
    noise = generator.integers(0, 120, (NUM_SAMPLES, *shape)) + 60 * labels.reshape(-1, *[1] * len(shape))
    samples = noise.astype(np.uint8) if kind == "images" else (noise // 60).astype(np.uint8)
    rows = np.arange(NUM_SAMPLES)
    mean, std = ((0.5,), (0.25,)) if kind == "images" else (None, None)
    return SampleStore(kind, samples, labels, {"train": rows, "test": rows}, CLASSES, mean, std)


def from_file(data, folder):
    """Put a dataset into a file of this process, and read ahead from there, as if it were larger than memory."""
    loading.RESIDENT_BYTES, ArrayFile.is_cached = 0, lambda *_: False
    path = folder / f"samples-{os.getpid()}.npy"
    np.save(path, data.samples)
    return dataclasses.replace(data, samples=open_array(path))


class Linear(nn.Module):
    """A network without batch statistics: the number of ranks changes only rounding."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, len(CLASSES))

    def forward(self, x):
        return ModelOutput(self.layer(x.flatten(1))[None], x)


class Unused(Linear):
    """A network with a layer that its logits do not depend on."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Normalised(nn.Module):
    """A smooth network with batch statistics: rounding errors stay small."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(216, 8), nn.BatchNorm1d(8)
        )
        self.head = nn.Linear(8, len(CLASSES))

    def forward(self, x):
        features = self.layers(x)
        return ModelOutput(self.head(features)[None], features)


def build(kind, data="images", backward="bptt", exits=False):
    torch.manual_seed(0)
    simple = {"linear": Linear, "unused": Unused, "normalised": Normalised}
    if kind in simple:
        return simple[kind]()
    channels = 1 if data == "images" else 2
    student = build_student(
        kind if "/" in kind else "resnet8",
        num_classes=len(CLASSES),
        in_channels=channels,
        time_steps=STEPS,
        neuron=NeuronConfig(threshold=0.5),
        backward=backward,
    )
    if exits:
        add_exits(student, "resnet8", num_classes=len(CLASSES), pooling="global")
    return student


def distillation(method, params, data, double, config):
    """Return the objective of the distill stage, with a teacher of random weights."""
    torch.manual_seed(1)
    channels = 1 if data == "images" else 2
    teacher = build_teacher("resnet8", num_classes=len(CLASSES), in_channels=channels).requires_grad_(False).eval()
    spec = DistillSpec.model_construct(method=method, params=params, seed=3, time_steps=STEPS, train=config)
    return Distillation(spec, teacher.double() if double else teacher)


class Objective:
    """The loss of a method, or cross-entropy; at a given call it signals this process or returns NaN."""

    def __init__(self, method=None, *, at=-1, action=None, noise=False):
        self.calls, self.at, self.action, self.method, self.noise = 0, at, action, method, noise

    def prepare(self, batch):
        if self.method:
            self.method.prepare(batch)

    def __call__(self, outputs, batch):
        self.calls += 1
        terms = (
            self.method(outputs, batch)
            if self.method
            else batch.over_labels(lambda labels: {"ce": per_step_cross_entropy(outputs.logits, labels)})
        )
        if self.noise:  # drawn from the global generator, as dropout would
            terms["noise"] = (outputs.logits * torch.randn_like(outputs.logits)).mean()
        if self.calls == self.at:
            if self.action == "nan":
                terms["ce"] = terms["ce"] * float("nan")
            else:
                os.kill(os.getpid(), getattr(signal, self.action))
        return terms


def run_training(
    folder,
    world,
    *,
    model="student",
    data="images",
    epochs=4,
    at=-1,
    action=None,
    at_rank=None,
    method=None,
    params=None,
    backward="bptt",
    noise=False,
    precision="float32",
    sync_batchnorm=False,
    double=False,
    recipe=None,
    validation=False,
    streamed=False,
    write_s=0.0,
    **engine,
):
    """Train, with further keys of the `recipe`; at call `at` of the objective, on `at_rank` or all, do `action`.

    Checkpoints take `write_s` longer to write.

    An action is the name of a signal, or "nan".
    """
    network = build(model, data, backward, exits=method == "esd")
    given = {"lr": 0.05, "warmup_epochs": 1, "precision": precision, "sync_batchnorm": sync_batchnorm}
    config = TrainConfig(epochs=epochs, batch_size=8, augment=Augment(crop_padding=1), **given | (recipe or {}))
    loader = Loader(
        from_file(store(data), folder) if streamed else store(data),
        "train",
        batch_size=config.batch_size,
        seed=3,
        augment=config.augment,
        mixing=Mixing(config.mixup, config.cutmix, config.mix_probability) if config.mixes else None,
        shuffle=True,
        chunked=config.chunked_shuffle,
        rank=world.rank,
        world_size=world.world_size,
    )
    held_out = Loader(store(data), "test", batch_size=8, rank=world.rank, world_size=world.world_size) if validation else None
    if double:
        network.double()
        loader, held_out = InDouble(loader), held_out and InDouble(held_out)

    loss = distillation(method, params or {}, data, double, config) if method else None
    here = at_rank in (None, world.rank)
    run = Run(
        model=network,
        objective=Objective(loss, at=at if here else -1, action=action, noise=noise),
        loader=loader,
        config=config,
        seed=3,
        world=world,
        checkpoints=CheckpointFolder(folder / "checkpoints", "run", fence=lambda: time.sleep(write_s)),
        tracker=Tracker(
            folder / "metrics.jsonl",
            folder / "tensorboard",
            num_epochs=epochs,
            steps_per_epoch=loader.steps_per_epoch,
            active=world.is_main_process,
            interval_s=0,
        ),
        validation=held_out,
        engine=EngineConfig(**engine),
    )
    train(run)
    return network


class InDouble:
    """A loader's batches in float64."""

    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def epoch(self, *position):
        return ((inputs.double(), labels) for inputs, labels in self.loader.epoch(*position))


def run_evaluation(world, killed_rank=None):
    if world.rank == killed_rank:
        os.kill(os.getpid(), signal.SIGKILL)
    data = store()
    loader = Loader(data, "test", batch_size=8, rank=world.rank, world_size=world.world_size)
    torch.manual_seed(0)
    neuron = NeuronConfig(threshold=0.05)  # low, so that untrained layers fire
    model = build_student("resnet8", num_classes=len(CLASSES), in_channels=1, time_steps=2, neuron=neuron)
    teacher = build_teacher("resnet8", num_classes=len(CLASSES), in_channels=1)
    figures, predictions = measure(model, loader, world, num_classes=len(CLASSES), energy=EnergyConfig(), teacher=teacher.eval())
    robust = measure_robustness(model, data, "test", InputConfig(), world, CorruptionConfig(noise=(0.0, 0.5), occlude=(0.5,)))
    return figures | {
        "timing": None,
        "robustness": robust,
        "predictions": {name: value.tolist() for name, value in predictions.items()},
    }


def run_rank(folder, task, timeout_s=60, **options):
    torch.set_num_threads(1)
    try:
        with World.from_environment(datetime.timedelta(seconds=timeout_s)) as world:
            if task == "evaluate":
                (folder / f"evaluation-{world.rank}.json").write_text(json.dumps(run_evaluation(world, **options)))
                return
            cases = json.loads((folder / "cases.json").read_text()) if task == "cases" else {".": {}}
            for name, case in cases.items():
                network = run_training(folder / name, world, **options, **case)
                if world.is_main_process:
                    torch.save(network.state_dict(), folder / name / "weights.pt")
    except Interrupted:
        print("left with", *sorted(saved(folder)), file=sys.stderr)
        raise
    except (ConfigError, TrainingError) as err:
        sys.exit(f"{type(err).__name__}: {err}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def fork_ranks(ranks, function):
    """Fork processes that each run `function` as one rank; call it before this process has computed anything."""
    port, pids = free_port(), []
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            status = 1
            try:
                function()
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    return pids


def torture(folder, *, ranks, kills=0, seed=0, rank_task="train", **options):
    """Kill all ranks `kills` times, each at a random moment before or just after its first checkpoint; then let them finish."""
    importlib.import_module("torch._dynamo")  # the optimizer imports it; once serves all forks
    generator = random.Random(seed)
    run = functools.partial(run_rank, folder, rank_task, checkpoint_minutes=0, **options)
    for _ in range(kills):
        before = saved(folder)
        pids = fork_ranks(ranks, run)
        given_up = time.monotonic() + generator.choice([0.5 * generator.random(), 60])
        while saved(folder) == before and time.monotonic() < given_up:
            time.sleep(0.001)
        time.sleep(0.015 * generator.random())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        if not all(os.WIFSIGNALED(status) for status in statuses):
            sys.exit(f"a rank ended by itself before it was killed: {statuses}")
    statuses = [os.waitpid(pid, 0)[1] for pid in fork_ranks(ranks, run)]
    if any(statuses):
        sys.exit(f"the last start failed: {statuses}")


def saved(folder):
    return {path.name for path in (folder / "checkpoints").glob("epoch-*.pt")}


def main():
    folder, task = Path(sys.argv[1]), sys.argv[2]
    options = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in sys.argv[3:])}
    if task == "torture":
        torture(folder, **options)
    else:
        run_rank(folder, task, **options)


if __name__ == "__main__":
    main()
