"""A rank uses its own GPU alone: a context on another one costs hundreds of MB there, and fails where GPUs are exclusive."""

import pytest
import torch

from spikedistill.data.loading import loader as loading
from spikedistill.evaluate.accuracy import Scores
from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.evaluate.batches import evaluation_loader
from spikedistill.evaluate.measure import measure
from spikedistill.evaluate.operations import OperationMeter
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.train.distributed import World
from spikedistill.train.engine import train
from tests.gpu.fake.counts import counts
from tests.gpu.test_loading import AUGMENTATIONS, array, image_files, load
from tests.gpu.training import Case, build_run, noise

pytestmark = [pytest.mark.only_fake, pytest.mark.gpus(2)]


@pytest.fixture(autouse=True)
def contexts_on_the_second_gpu_alone(gpu):
    """As `World.from_environment` does on the second rank of a node; the process has no context on the first GPU before."""
    torch.cuda.set_device(1)
    yield
    assert counts(0)["contexts"] == 0, "this test, or one before it in its process, opened a context on GPU 0"
    assert counts(1)["contexts"] == 1


SECOND = torch.device("cuda", 1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation(gpu, name):
    kind, augment = AUGMENTATIONS[name]
    list(load(array(kind), SECOND, augment=loading.Augment.model_validate(augment)).epoch(0))


@pytest.mark.parametrize("place", ["device", "rows", "files"])
def test_samples_from_every_place(gpu, tmp_path, monkeypatch, place):
    monkeypatch.setattr(loading, "RESIDENT_SHARE", 0.25 if place == "device" else 0.0)
    list(load(image_files(tmp_path) if place == "files" else array("images"), SECOND).epoch(0))


@pytest.mark.parametrize("engine", [{}, {"cuda_graph": True}], ids=["plain", "graph"])
def test_training_with_validation(gpu, tmp_path, engine):
    case = Case(steps=6, engine=engine, train={"precision": "bf16", "ema": 0.9})
    world = World(device=SECOND)
    run = build_run(case, tmp_path, world)
    object.__setattr__(run, "validation", evaluation_loader(noise(case), "test", run.loader._inputs, world))
    train(run)


def test_evaluation(gpu, tmp_path, monkeypatch):
    for part in (Scores, ActivityMeter, OperationMeter):  # what they sum up are values
        monkeypatch.setattr(part, "summary", lambda *arguments, **options: {"nll": 0.0})
    case, world = Case(), World(device=SECOND)
    run = build_run(case, tmp_path, world)
    loader = evaluation_loader(noise(case), "test", run.loader._inputs, world)
    assert measure(run.model, loader, world, num_classes=10, energy=EnergyConfig()).metrics["timing"]["device"] == "Fake H100"
