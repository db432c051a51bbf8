"""Students that run all time steps at once, trained on several ranks, in bf16, and with a memory layout of their own."""

import pytest
import torch
from torch import nn

from spikedistill.errors import ConfigError
from spikedistill.models import build_student
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World
from spikedistill.train.network.preparation import prepare
from spikedistill.train.settings import EngineConfig, TrainConfig
from tests.unit.train.rank import run_training
from tests.unit.train.test_engine import metrics, torture


@pytest.mark.slow
def test_two_ranks_train_a_model_of_spikingjelly_like_one(tmp_path):
    given = {"model": "spikingjelly/sew_resnet18", "epochs": 2, "double": True, "sync_batchnorm": True, "data": "frames"}
    one, two = (torture(tmp_path / str(ranks), ranks=ranks, **given) for ranks in (1, 2))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-8, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")
    losses = [[record["train/loss"] for record in metrics(tmp_path / ranks)] for ranks in "12"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9) and losses[0][0] != losses[0][1]


@pytest.mark.slow
def test_bf16_keeps_the_weights_in_float32(tmp_path):
    network = run_training(tmp_path, World(), model="spikingjelly/spikformer_ti", epochs=2, precision="bf16")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_a_strided_convolution_of_single_pixels_is_refused_in_bf16_on_a_cpu(precision):
    student = build_student("sew_resnet18_imagenet", num_classes=3, in_channels=1, time_steps=2, neuron=NeuronConfig())
    prepare(student, TrainConfig(epochs=1, batch_size=2, precision=precision), EngineConfig(), World())
    student(torch.rand(2, 1, 32, 32))
    if precision == "float32":
        student(torch.rand(2, 1, 8, 8))
    else:
        with pytest.raises(ConfigError, match=r"a map of 1x1, as network\.stages\.2\.\S+ does here; set it to float32"):
            student(torch.rand(2, 1, 8, 8))


def test_a_model_with_three_dimensional_convolutions_is_prepared():
    student = build_student(
        "spikingjelly/masnn_dvs128_gesture", num_classes=3, in_channels=2, time_steps=5, neuron=NeuronConfig(threshold=0.1)
    )
    frames = torch.rand(5, 2, 2, 32, 32)
    with torch.no_grad():
        before = student.eval()(frames).logits
        prepare(student, TrainConfig(epochs=1, batch_size=2), EngineConfig(), World())
        torch.testing.assert_close(student(frames).logits, before)
    flat = [module for module in student.modules() if isinstance(module, nn.Conv2d) and module.in_channels > 2]
    assert flat and all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in flat)
