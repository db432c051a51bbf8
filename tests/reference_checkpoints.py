"""Checkpoints as the code of SeAl, TDD, ESD and CKDSNN saves them: names, order and nesting, with weights of `networks.json`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from spikedistill.neurons.settings import NeuronConfig

CASES = {case["name"]: case for case in json.loads((Path(__file__).parent / "golden" / "networks.json").read_text())["cases"]}
BLOCKS = {18: (2, 2, 2, 2), 19: (3, 3, 2), 20: (3, 3, 3), 34: (3, 4, 6, 3)}

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def draw(key, k, shape):
    values = np.random.Generator(np.random.Philox(key=[key, k])).standard_normal(int(np.prod(shape)))
    return torch.from_numpy(values.reshape(shape))


def neuron_of(case):
    """The neuron of a case's student."""
    return NeuronConfig(
        decay=case["decay"],
        reset="hard" if case["v_reset"] == 0.0 else "soft",
        detach_reset=case["detach_reset"],
        spike_at_threshold=case.get("fires") != "above",
        surrogate=case.get("surrogate", "sigmoid"),
        alpha=case.get("alpha", 4.0),
    )


def golden_logits(case, which="logits"):
    return torch.tensor(case[which], dtype=torch.float64)


def drawn(module, key):
    """Give every parameter its value by its position in the authors' order, which is ours."""
    norms = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)}
    with torch.no_grad():
        for position, (name, parameter) in enumerate(module.named_parameters()):
            values = draw(key, position, tuple(parameter.shape))
            if values.dim() == 4:
                values *= (2 / (values.shape[1] * values.shape[2] * values.shape[3])) ** 0.5
            else:
                values *= 4 / values.shape[1] ** 0.5 if values.dim() == 2 else 0.1
            parameter.copy_(values + (1 if name in norms else 0))
    return module


def inputs(case):
    """Images [B, C, H, W] or frames [T, B, C, H, W] of a case."""
    size, key = case["size"], case["first_keys"]["input"]
    if case["input"].startswith("draw"):
        return draw(key, 0, (case["batch"], case["channels"], size, size))
    return (draw(key, 0, (case["batch"], case["T"], case["channels"], size, size)).abs() * 2).transpose(0, 1)


def state_dict(shapes: Shapes, key: int) -> dict[str, torch.Tensor]:
    """Give named shapes their values: parameters drawn by their position, fresh running statistics; twins share their tensors."""
    state: dict[str, torch.Tensor] = {}
    position = 0
    for name, shape in shapes:
        twin = name.replace("seqbn.module", "bn")
        if twin != name:
            state[name] = state[twin]
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
        elif "running" in name:
            state[name] = torch.zeros(shape).double() if "mean" in name else torch.ones(shape).double()
        else:
            state[name] = _parameter(name, draw(key, position, shape))
            position += 1
    return state


def _parameter(name, values):
    if values.dim() == 4:
        _, in_channels, *kernel = values.shape
        return values * np.sqrt(2 / (in_channels * np.prod(kernel)))
    if values.dim() == 2:
        return values * 4 / np.sqrt(values.shape[1])
    is_norm = any(
        f"{part}.weight" in name for part in ("bn", "bn1", "bn2", "conv0.1", "shortcut.1", "downsample.1", "downsample.2")
    )
    return values * 0.1 + (1 if is_norm and values.dim() == 1 else 0)


def _norm(name, width) -> Shapes:
    for kind in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{kind}", (width,)
    yield f"{name}.num_batches_tracked", ()


def _twin_norm(name, width) -> Shapes:
    yield from _norm(f"{name}.bn", width)
    yield from _norm(f"{name}.seqbn.module", width)


def _layer(name, *shape, bias=True) -> Shapes:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def _stages(depth, widths, *, norm, inside, shortcut, bias=False) -> Shapes:
    """The residual stages: conv1, bn1, conv2, bn2, shortcut of each block; `shortcut` names its convolution and its norm."""
    before = widths[0]
    for stage, (count, width) in enumerate(zip(BLOCKS[depth], widths, strict=True), 1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            yield from _layer(f"{name}.conv1{inside}", width, before, 3, 3, bias=bias)
            yield from norm(f"{name}.bn1", width)
            yield from _layer(f"{name}.conv2{inside}", width, width, 3, 3, bias=bias)
            yield from norm(f"{name}.bn2", width)
            if before != width:
                yield from _layer(f"{name}.{shortcut[0]}{inside}", width, before, 1, 1, bias=bias)
                yield from norm(f"{name}.{shortcut[1]}", width)
            before = width


def snn(depth, classes, channels) -> Shapes:
    """ResNet-18 and -19 of SeAl, TDD and ESD."""
    widths = (128, 256, 512) if depth == 19 else (64, 128, 256, 512)
    yield from _layer("conv0.0", widths[0], channels, 3, 3, bias=False)
    yield from _norm("conv0.1", widths[0])
    yield from _stages(depth, widths, norm=_norm, inside="", shortcut=("shortcut.0", "shortcut.1"))
    if depth == 19:
        yield from _layer("classifier.0", 256, 512)
    yield from _layer("classifier.2" if depth == 19 else "classifier.0", classes, 256 if depth == 19 else 512)


def preact(depth, classes) -> Shapes:
    """PreAct-ResNet of SeAl, TDD and ESD, whose convolutions have biases."""
    widths = (64, 128, 256, 512)
    yield from _layer("conv1", 64, 3, 7, 7)
    yield from _norm("bn1", 64)
    yield from _stages(depth, widths, norm=_norm, inside="", shortcut=("downsample.0", "downsample.1"), bias=True)
    yield from _layer("fc", classes, 512)


def ann(depth, classes, channels) -> Shapes:
    """The teachers of SeAl and TDD."""
    widths, kernel = ((128, 256, 512) if depth == 19 else (64, 128, 256, 512)), (7 if classes > 100 else 3)
    yield from _layer("conv1", widths[0], channels, kernel, kernel, bias=False)
    yield from _norm("bn1", widths[0])
    yield from _stages(depth, widths, norm=_norm, inside="", shortcut=("downsample.0", "downsample.1"))
    if depth == 19:
        yield from _layer("fc.0", 256, 512)
    yield from _layer("fc.2" if depth == 19 else "fc", classes, 256 if depth == 19 else 512)


def esd_branches(classes, widths=(64, 128, 256, 512)) -> Shapes:
    """Some of the tensors of ESD's branches, which come after the network."""
    for number in (1, 2, 3):
        yield from _layer(f"scala{number}.0.op.0", widths[number - 1], 1, 3, 3, bias=False)
        yield from _norm(f"scala{number}.0.res_bn", widths[number])
    for number in (1, 2, 3):
        yield from _layer(f"fc{number}", classes, widths[-1])


def ckd(depth, classes, *, student) -> Shapes:
    """The networks of CKDSNN; those of students wrap layers for time."""
    width = 16 if depth == 20 else 128
    widths, norm = (width, 2 * width, 4 * width), (_twin_norm if student else _norm)
    inside = ".module" if student else ""
    yield from _layer("conv1", width, 3, 3, 3, bias=False)
    yield from norm("bn" if student else "bn1", width)
    yield from _stages(depth, widths, norm=norm, inside=inside, shortcut=("downsample.1", "downsample.2"))
    if student:
        yield from _layer("fc2", 256, 4 * width)
        yield from _layer("fc1", classes, 256)
    else:
        yield from _layer("linear", classes, 4 * width)


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def best_net(state):
    """What SeAl, TDD and ESD save."""
    momentum = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return {"best_acc": 95.1, "best_epoch": 7, "best_net": state, "optimizer": momentum}


def lightning(state):
    """What Lightning saves for CKDSNN."""
    return {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val/acc'}": {"best_model_score": torch.tensor(0.9), "dirpath": "logs"}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [{"T_max": 400, "last_epoch": 3}],
        "hparams_name": "args",
        "hyper_parameters": {"args": argparse.Namespace(arch="resnet19", width_mult=8, T=2)},
    }
