"""Teachers from timm: `timm/resnet10t`, or with the tag of its weights, `timm/resnet50.a1_in1k`. Imports timm when one is built.

timm is an optional dependency: `pip install 'spikedistill[timm]'`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spikedistill.errors import ConfigError
from spikedistill.lazy import torch
from spikedistill.models.imported.source_names import registered

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spikedistill.models.imported.zoo_network import ZooInputs, ZooNetwork
    from spikedistill.models.network import Activation

ZOO = "timm"
MISSING = "timm is not installed: pip install 'spikedistill[timm]'"
ANN_ONLY = True
"""No students: the models are ANNs."""

PLAIN = frozenset({
    "cspnet", "densenet", "efficientnet", "hrnet", "inception_resnet_v2", "inception_v3", "inception_v4", "nasnet", "nfnet",
    "pnasnet", "regnet", "res2net", "resnest", "resnet", "rexnet", "selecsls", "senet", "sknet", "tresnet", "vovnet", "xception",
    "xception_aligned",
})  # fmt: skip
"""Files of timm.models whose classifiers are one linear layer on globally pooled features; a test compares."""


def names() -> tuple[str, ...]:
    """Return the names of timm's models, of the installed version.

    Raises:
        ConfigError: if timm is not installed.
    """
    return tuple(_installed())


def entry(name: str) -> dict[str, Any]:
    """Return the entry of a model; its name may end in the tag of its weights, which decides what inputs they take.

    Raises:
        KeyError: if timm has no model of that name.
        ConfigError: if timm is not installed.
    """
    if name.partition(".")[0] not in _installed():
        raise KeyError(name)
    return {"model": name}


def plain_classifier(entry: Mapping[str, Any]) -> bool:
    """Return True if the model classifies by one linear layer on globally pooled features."""
    return _installed()[entry["model"].partition(".")[0]] in PLAIN


def inputs(entry: Mapping[str, Any]) -> ZooInputs:
    """Return what the weights of a model were trained on, by timm's own table."""
    from spikedistill.models.imported.zoo_network import ZooInputs

    found = _timm().models.get_pretrained_cfg(entry["model"])
    if found is None:
        return ZooInputs(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), fixed_size=False)
    return ZooInputs(found.input_size[-1], tuple(found.mean), tuple(found.std), fixed_size=bool(found.fixed_input_size))


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> ZooNetwork:
    """Build a model with timm's initial weights; nothing is downloaded.

    Raises:
        ConfigError: if timm cannot build it: an unknown tag, or another number of channels than it takes.
    """
    from spikedistill.models.imported.zoo_network import ZooNetwork, refuse_spikes

    timm = _timm()
    refuse_spikes(f"timm/{entry['model']}", activation)
    try:
        model = timm.create_model(entry["model"], pretrained=False, num_classes=num_classes, in_chans=in_channels)
    except (RuntimeError, TypeError, AssertionError, ValueError, NotImplementedError) as err:
        raise ConfigError(f"timm cannot build {entry['model']!r} for {in_channels} channels: {err}") from None
    return ZooNetwork(
        model,
        features=_features,
        head=_head,
        final_layers=_final_layers(model),
        plain_classifier=plain_classifier(entry),
    )


def _installed() -> dict[str, str]:
    found = registered("timm")
    if not found:
        raise ConfigError(MISSING)
    return found


def _timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ImportError as err:
        raise ConfigError(f"{MISSING} ({err})") from err


def _features(model: nn.Module, images: Tensor) -> Tensor:
    features = model.forward_features(images)  # type: ignore[operator]
    return features.permute(0, 3, 1, 2) if _channels_last(model, features) else features


def _head(model: nn.Module, features: Tensor) -> Tensor:
    return model.forward_head(features.permute(0, 2, 3, 1) if _channels_last(model, features) else features)  # type: ignore[operator]


def _channels_last(model: nn.Module, features: Tensor) -> bool:
    """Return True for maps that the model keeps as [N, h, w, D], as Swin transformers do."""
    return isinstance(features, torch.Tensor) and features.dim() == 4 and str(getattr(model, "output_fmt", "")).endswith("NHWC")


def _final_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers that make logits: one, or two in models with a token for distillation."""
    names = model.pretrained_cfg["classifier"]  # type: ignore[index]
    return [names] if isinstance(names, str) else list(names or ())
