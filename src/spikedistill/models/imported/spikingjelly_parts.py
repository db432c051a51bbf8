"""How the models of `spikingjelly.activation_based.model` are taken apart: maps after the last stage, and logits of every step.

Some of these models average over time before their classifier; `head` does not, so that methods get the logits of every step. As
the classifier is linear, their mean over time is the model's own output.

Letters: T step, B batch, C input channel, D channel, K class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

Part = Callable[[Any, Tensor], Tensor]


class Family(NamedTuple):
    """The parts of the models of one file.

    Attributes:
        features: (model, frames [T, B, C, H, W]) -> maps after the last stage [T, B, D, h, w].
        head: (model, maps) -> logits [T, B, K].
        init: fills the weight of a first convolution for another number of channels, as the model does.
    """

    features: Part
    head: Part
    init: Callable[[Tensor], Any]


def with_channels(model: nn.Module, in_channels: int, init: Callable[[Tensor], Any]) -> nn.Module:
    """Replace the first convolution of a model if it is for another number of channels; return the model."""
    name, first = next((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == in_channels:
        return model
    fresh = type(first)(
        in_channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    init(fresh.weight)
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, fresh)
    return model


def _run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _chain(*names: str) -> Part:
    """Return a part that runs some layers of a model, given by name; a list of layers runs one by one."""

    def run(model: Any, x: Tensor) -> Tensor:
        for name in names:
            layer = getattr(model, name)
            x = _run(layer, x) if isinstance(layer, nn.ModuleList) else layer(x)
        return x

    return run


def _pooled(*names: str) -> Part:
    """Return a head: the model's own pooling, flattened, then some layers."""
    return lambda model, maps: _chain(*names)(model, model.avgpool(maps).flatten(2))


def _of_mean(*names: str) -> Part:
    """Return a head: the mean over the pixels, then some layers."""
    return lambda model, maps: _chain(*names)(model, maps.flatten(3).mean(-1))


def _ms_features(model: Any, frames: Tensor) -> Tensor:
    maps = _chain("stem", "layer1", "layer2", "layer3")(model, frames)
    return maps if model.layer4 is None else model.layer4(maps)


def _ms_head(model: Any, maps: Tensor) -> Tensor:
    pooled = model.avgpool(model.head_lif(maps)).flatten(2)
    return model.head(model.dropout(pooled) if hasattr(model, "dropout") else pooled)


def _before_flatten(model: Any, frames: Tensor) -> Tensor:
    return _run(model.conv_fc[: _flatten_of(model)], frames)


def _from_flatten(model: Any, maps: Tensor) -> Tensor:
    return _run(model.conv_fc[_flatten_of(model) :], maps)


def _flatten_of(model: Any) -> int:
    return next(i for i, layer in enumerate(model.conv_fc) if isinstance(layer, nn.Flatten))


_EMBEDDED_STAGES = _chain("patch_embed1", "stage1", "patch_embed2", "stage2", "patch_embed3", "stage3")
_fan_out = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
_truncated = partial(nn.init.trunc_normal_, std=0.02)

FAMILIES: dict[str, Family] = {
    "masnn": Family(_chain("conv_blocks"), lambda model, maps: model.fc_blocks(maps.flatten(2)), _fan_out),
    "att_ms_resnet": Family(_ms_features, _ms_head, _fan_out),
    "maxformer": Family(_EMBEDDED_STAGES, _of_mean("head_lif", "head"), _fan_out),
    "ms_resnet": Family(_ms_features, _ms_head, _fan_out),
    "parametric_lif_net": Family(_before_flatten, _from_flatten, _fan_out),
    "qkformer": Family(_EMBEDDED_STAGES, _of_mean("head"), _fan_out),
    "sew_resnet": Family(
        _chain("conv1", "bn1", "sn1", "maxpool", "layer1", "layer2", "layer3", "layer4"), _pooled("fc"), _fan_out
    ),
    "spike_driven_transformer": Family(_chain("patch_embed", "blocks"), _of_mean("head_lif", "head"), _fan_out),
    "spikformer": Family(_chain("patch_embed", "blocks"), _of_mean("head"), _truncated),
    "spiking_resnet": Family(
        _chain("conv1", "bn1", "sn1", "maxpool", "layer1", "layer2", "layer3", "layer4"), _pooled("fc"), _fan_out
    ),
    "spiking_vgg": Family(_chain("features"), _pooled("classifier"), _fan_out),
}
"""By file of spikingjelly.activation_based.model; of the two architectures in masnn.py, one has a name of its own here."""
