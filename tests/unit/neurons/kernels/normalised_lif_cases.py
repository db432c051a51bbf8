"""Batch normalisation fused with LIF neurons against the layers of their own; in the interpreter or on a GPU."""

import copy
import itertools

import pytest
import torch
import torch.distributed as dist
from torch import nn

from spikedistill.models import build_student
from spikedistill.neurons.kernels import launch
from spikedistill.neurons.kernels.normalised_lif_backward import MAX_STEPS
from spikedistill.neurons.kernels.tiles import Tiles
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.network.batchnorm import synchronise
from spikedistill.train.network.fusion import fuse_normalisation

DEVICE = "cpu" if launch.INTERPRETED else "cuda"
torch.backends.cudnn.allow_tf32 = False
TOLERANCE = 1e-6 if DEVICE == "cpu" else 1e-5
"""Of gradients of whole networks, in units of the largest; cuDNN's convolutions add in another order each time."""
NEURONS = [
    NeuronConfig(reset=reset, detach_reset=detach, surrogate=surrogate, alpha=alpha, spike_at_threshold=at)
    for reset, detach, (surrogate, alpha, at) in itertools.product(
        ("hard", "soft"), (False, True), (("sigmoid", 4.0, True), ("triangle", 1.0, False))
    )
]
SHAPE = (3, 20, 5, 7)  # B, C, H, W: neither samples nor channels fill their tiles
STEPS = 4


class Block(nn.Module):
    """What `BasicBlock` does with the output of its last convolution; without a shortcut, what an `nn.Sequential` does."""

    def __init__(self, neuron, channels, steps):
        super().__init__()
        self.norm, self.neurons = nn.BatchNorm2d(channels), LIF(neuron, steps)
        with torch.no_grad():
            self.norm.weight.copy_(torch.linspace(-0.5, 2, channels))
            self.norm.bias.copy_(torch.linspace(-1, 1, channels))
        self.pair = nn.Sequential(self.norm, self.neurons)

    def forward(self, y, shortcut=None):
        if shortcut is None:
            return self.pair(y)
        return self.neurons(self.norm(y), shortcut) if "forward" in vars(self.neurons) else self.neurons(self.norm(y) + shortcut)


def both(neuron, channels=SHAPE[1], steps=STEPS):
    """The layers as they are, and fused."""
    plain = Block(neuron, channels, steps).to(DEVICE)
    fused = copy.deepcopy(plain)
    fuse_normalisation(fused.pair)
    return plain, fused


def tensors(dtype, shape=SHAPE, steps=STEPS, mean=0.5):
    """Output of a convolution, shortcut and upstream gradient, channels_last."""
    generator = torch.Generator().manual_seed(0)
    size = (steps * shape[0], *shape[1:])
    made = (1.5 * torch.randn(size, generator=generator) + mean, torch.rand(size, generator=generator).round())
    made += (torch.randn(size, generator=generator),)
    return [x.to(DEVICE, dtype, memory_format=torch.channels_last) for x in made]


def run(module, y, shortcut, upstream):
    """Spikes and gradients of everything."""
    leaves = [y.clone().requires_grad_()] + ([] if shortcut is None else [shortcut.clone().requires_grad_()])
    spikes = module(*leaves)
    return spikes, torch.autograd.grad(spikes, [*leaves, module.norm.weight, module.norm.bias], upstream)


def assert_gradients_agree(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=10 * tolerance, atol=tolerance * float(b.abs().max()))


def assert_equal_buffers(plain, fused):
    tolerance = 0 if DEVICE == "cpu" else 1e-6  # cuDNN rounds otherwise
    for ours, theirs in zip(fused.norm.buffers(), plain.norm.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_float32_agrees_to_rounding(neuron, with_shortcut):
    plain, fused = both(neuron)
    y, shortcut, upstream = tensors(torch.float32)
    shortcut = shortcut if with_shortcut else None
    expected, theirs = run(plain, y, shortcut, upstream)
    spikes, ours = run(fused, y, shortcut, upstream)
    assert torch.equal(spikes, expected) and 0.05 < spikes.mean() < 0.8
    assert spikes.is_contiguous(memory_format=torch.channels_last)
    assert_gradients_agree(ours, theirs, 1e-6)
    assert_equal_buffers(plain, fused)


@pytest.mark.parametrize("with_shortcut", [False, True])
def test_bf16_is_float32_between_its_inputs_and_outputs(with_shortcut):
    plain, fused = both(NeuronConfig())
    given = tensors(torch.bfloat16)
    y, shortcut, upstream = (x if i != 1 or with_shortcut else None for i, x in enumerate(given))
    in_bf16 = copy.deepcopy(plain)
    rounded, _ = run(in_bf16, y, shortcut, upstream)
    expected, theirs = run(plain, *(None if x is None else x.float() for x in (y, shortcut, upstream)))
    spikes, ours = run(fused, y, shortcut, upstream)
    assert spikes.dtype == ours[0].dtype == torch.bfloat16
    assert torch.equal(spikes.float(), expected)
    assert 0 < (spikes != rounded).float().mean() < 0.01  # potentials that bf16 rounds across the threshold
    assert_gradients_agree(ours, theirs, 4e-3)
    assert_equal_buffers(in_bf16, fused)


def test_statistics_are_sound_where_the_mean_is_much_larger_than_the_deviation():
    plain, fused = both(NeuronConfig())
    y, _, upstream = tensors(torch.float32, mean=3000.0)
    expected, theirs = run(plain.double(), y.double(), None, upstream.double())
    spikes, ours = run(fused, y, None, upstream)
    assert (spikes != expected).float().mean() < 1e-3
    assert all((a - b).norm() < 0.01 * b.norm() for a, b in zip(ours, theirs, strict=True))
    torch.testing.assert_close(fused.norm.running_var.double(), plain.norm.running_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize("with_shortcut", [False, True])
def test_evaluation_uses_the_running_statistics_and_has_gradients(with_shortcut):
    plain, fused = both(NeuronConfig())
    y, shortcut, upstream = tensors(torch.float32)
    shortcut = shortcut if with_shortcut else None
    for module in (plain, fused):
        run(module, y, shortcut, upstream)
        module.eval()
    before = {name: value.clone() for name, value in fused.state_dict().items()}
    expected, theirs = run(plain, y, shortcut, upstream)
    spikes, ours = run(fused, y, shortcut, upstream)
    assert torch.equal(spikes, expected)
    assert_gradients_agree(ours, theirs, 1e-6)
    assert all(torch.equal(before[name], value) for name, value in fused.state_dict().items())


@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        (1, (2, 16, 4, 4)),
        (2, (5, 128, 3, 3)),
        (8, (1, 70, 2, 2)),
        (MAX_STEPS, (1, 8, 2, 3)),
        (2, (4, 1, 6, 6)),
        (3, (9, 5, 1, 1)),
    ],
)
def test_any_number_of_steps_and_channels(steps, shape, with_shortcut):
    plain, fused = both(NeuronConfig(), shape[1], steps)
    y, shortcut, upstream = tensors(torch.float32, shape, steps)
    shortcut = shortcut if with_shortcut else None
    expected, theirs = run(plain, y, shortcut, upstream)
    spikes, ours = run(fused, y, shortcut, upstream)
    assert torch.equal(spikes, expected)
    assert_gradients_agree(ours, theirs, 2e-6)


def test_programs_that_sum_several_tiles(monkeypatch):
    monkeypatch.setattr("spikedistill.neurons.kernels.normalised_lif_backward._SUM_PROGRAMS", 3)
    plain, fused = both(NeuronConfig())
    y, _, upstream = tensors(torch.float32)
    assert Tiles.of(y.permute(0, 2, 3, 1).reshape(STEPS, -1, SHAPE[1]), backward=True).grid[0] > 2 * 3
    assert_gradients_agree(run(fused, y, None, upstream)[1], run(plain, y, None, upstream)[1], 1e-6)


def test_other_memory_orders_are_taken_and_channels_last_comes_out():
    plain, fused = both(NeuronConfig())
    y, shortcut, upstream = (x.contiguous() for x in tensors(torch.float32))
    expected, theirs = run(plain, y, shortcut, upstream)
    spikes, ours = run(fused, y, shortcut, upstream.mean((2, 3), keepdim=True).expand_as(upstream))
    assert torch.equal(spikes, expected) and ours[0].shape == y.shape
    assert_gradients_agree(run(fused, y, shortcut, upstream)[1], theirs, 1e-6)


def test_nothing_of_float32_is_kept_for_backward():
    _, fused = both(NeuronConfig())
    y, shortcut, _ = tensors(torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x), x)[1], lambda x: x):
        fused(y.requires_grad_(), shortcut)
    large = [x for x in kept if x.numel() > 10 * SHAPE[1]]
    assert [(x.dtype, x.data_ptr()) for x in large] == [(torch.bfloat16, y.data_ptr()), (torch.bfloat16, shortcut.data_ptr())]


SMALL = {
    "resnet8": ({"blocks": (1, 1), "widths": (8, 16), "strides": (1, 2)}, 5),
    "sew_resnet18": ({"blocks": (1, 1), "widths": (8, 16)}, 6),
    "preact_resnet18": ({"blocks": (1, 1), "widths": (8, 16), "residual_exits": True}, 2),
    "vggsnn": ({"stages": ((8, 16), (16, 16))}, 4),
}
"""Networks of each family, and how many pairs of normalisation and neurons each has."""


@pytest.mark.parametrize("arch", SMALL)
def test_networks_have_the_same_gradients(arch):
    entry, pairs = SMALL[arch]
    torch.manual_seed(0)
    plain = build_student(arch, num_classes=10, in_channels=3, time_steps=2, neuron=NeuronConfig(), entry=entry).to(DEVICE)
    fused = copy.deepcopy(plain)
    fuse_normalisation(fused)
    assert sum("forward" in vars(module) for module in fused.modules() if isinstance(module, LIF)) == pairs
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    for module in (plain, fused):
        module(x).logits.square().sum().backward()
    assert list(plain.state_dict()) == list(fused.state_dict())
    scale = max(float(parameter.grad.abs().max()) for parameter in plain.parameters())
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-4, atol=TOLERANCE * scale, msg=lambda m, name=name: f"{name}: {m}"
        )
    for (name, ours), theirs in zip(fused.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def rank(number, world_size, folder):
    """One of several ranks: normalise and differentiate its part of the batch; ranks have different numbers of samples."""
    torch.set_num_threads(1)
    backend, device = ("gloo", torch.device("cpu")) if DEVICE == "cpu" else ("nccl", torch.device("cuda", number))
    dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=number, world_size=world_size)
    module = Block(NeuronConfig(), SHAPE[1], STEPS).to(device)
    module.pair = synchronise(module.pair)
    module.norm, module.neurons = module.pair
    fuse_normalisation(module.pair)
    own = slice(0, 1) if number == 0 else slice(1, SHAPE[0])
    parts = [x.unflatten(0, (STEPS, -1))[:, own].flatten(0, 1).to(device) for x in tensors(torch.float32)]
    spikes, gradients = run(module, *parts)
    torch.save([x.cpu() for x in (spikes.detach(), *gradients, *module.norm.buffers())], folder / f"{number}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(DEVICE == "cuda" and torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_statistics_of_all_ranks(tmp_path):
    plain, _ = both(NeuronConfig())
    expected, gradients = run(plain, *tensors(torch.float32))
    torch.multiprocessing.spawn(rank, (2, tmp_path), nprocs=2)
    parts = list(zip(*(torch.load(tmp_path / f"{number}.pt") for number in range(2)), strict=True))
    whole = [torch.cat([x.unflatten(0, (STEPS, -1)) for x in pair], 1).flatten(0, 1) for pair in parts[:3]]
    assert torch.equal(whole[0], expected.cpu())
    assert_gradients_agree([*whole[1:], *(a + b for a, b in parts[3:5])], [x.cpu() for x in gradients], 1e-6)
    for of_ranks, buffer in zip(parts[5:], plain.norm.buffers(), strict=True):
        for found in of_ranks:
            torch.testing.assert_close(found, buffer.cpu(), rtol=1e-6, atol=1e-7)
