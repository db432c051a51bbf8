"""Teachers from torchvision: `torchvision/resnet34`. Imports torch when a model is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from spikedistill.lazy import torch
from spikedistill.models.imported.source_names import registered

if TYPE_CHECKING:
    from spikedistill.models.imported.zoo_network import ZooInputs, ZooNetwork
    from spikedistill.models.network import Activation

ZOO = "torchvision"
ANN_ONLY = True
"""No students: the models are ANNs."""

Layers = Callable[["torch.nn.Module", "torch.Tensor"], "torch.Tensor"]


class _Family(NamedTuple):
    """How models of one class are taken apart.

    Attributes:
        features: (model, images) -> what the head takes.
        head: (model, features) -> logits.
        final_layer: name of the layer whose output is the logits.
        plain_classifier: whether the head is global average pooling and one linear layer.
    """

    features: Layers
    head: Layers
    final_layer: str
    plain_classifier: bool


PLAIN = frozenset({
    "densenet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenetv2", "regnet", "resnet", "shufflenetv2",
    "swin_transformer",
})  # fmt: skip
"""Files of torchvision.models whose classifiers are one linear layer on globally pooled features; a test compares."""


def names() -> tuple[str, ...]:
    """Return the names of torchvision's models for classification, of the installed version."""
    return tuple(registered("torchvision"))


def entry(name: str) -> dict[str, Any]:
    """Return the entry of a model.

    Raises:
        KeyError: if torchvision has no model of that name.
    """
    if name not in registered("torchvision"):
        raise KeyError(name)
    return {"model": name}


def plain_classifier(entry: Mapping[str, Any]) -> bool:
    """Return True if the model classifies by one linear layer on globally pooled features."""
    return registered("torchvision")[entry["model"]] in PLAIN


def inputs(entry: Mapping[str, Any]) -> ZooInputs:
    """Return what torchvision's newest weights of a model were trained on."""
    import torchvision

    from spikedistill.models.imported.zoo_network import ZooInputs

    weights = torchvision.models.get_model_weights(entry["model"])
    preset = weights.DEFAULT.transforms() if len(weights) else None  # type: ignore[attr-defined,arg-type]
    size, mean, std = (
        (preset.crop_size[0], preset.mean, preset.std) if preset else (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    fixed = registered("torchvision")[entry["model"]] in ("vision_transformer", "maxvit")
    return ZooInputs(size, tuple(mean), tuple(std), fixed)


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> ZooNetwork:
    """Build a model with torchvision's initial weights; one for other than 3 channels gets a first convolution for them."""
    import torchvision

    from spikedistill.models.imported.zoo_network import ZooNetwork, refuse_spikes, with_channels

    refuse_spikes(f"torchvision/{entry['model']}", activation)
    source = registered("torchvision")[entry["model"]]
    extra: dict[str, Any] = {}
    if source in ("googlenet", "inception"):  # branches exist in training only; the weights take ImageNet's normalisation
        extra = {"aux_logits": False, "transform_input": in_channels == 3, "init_weights": True}
    elif source == "vision_transformer":  # has a place for each patch
        extra = {"image_size": inputs(entry).size}
    model = torchvision.models.get_model(entry["model"], weights=None, num_classes=num_classes, **extra)
    family = _FAMILIES[source]
    return ZooNetwork(
        with_channels(model, in_channels),
        features=family.features,
        head=family.head,
        final_layers=[family.final_layer],
        plain_classifier=family.plain_classifier,
        training_only=("aux1.", "aux2.", "AuxLogits."),
    )


def _chain(*names: str) -> Layers:
    def run(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        for name in names:
            x = getattr(model, name)(x)
        return x

    return run


def _pooled(*names: str) -> Layers:
    """Return a head: global average pooling, then some layers."""

    def run(model: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
        return _chain(*names)(model, features.mean((2, 3)))

    return run


def _flat_between(pool: str, *names: str) -> Layers:
    """Return a head: the model's own pooling, flattened, then some layers."""

    def run(model: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
        return _chain(*names)(model, getattr(model, pool)(features).flatten(1))

    return run


def _rectified(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.relu(model.features(x))  # type: ignore[operator]


def _inception(names: Sequence[str]) -> Layers:
    def run(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return _chain(*names)(model, model._transform_input(x))  # type: ignore[operator]

    return run


def _swin(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.permute(model.norm(model.features(x)))  # type: ignore[operator]


def _tokens(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the tokens [N, 1 + h * w, D] of a vision transformer, the class token first."""
    patches = model._process_input(x)  # type: ignore[operator]
    token = model.class_token.expand(len(patches), -1, -1)  # type: ignore[operator,union-attr]
    return model.encoder(torch.cat([token, patches], dim=1))  # type: ignore[operator]


def _class_token(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return model.heads(tokens[:, 0])  # type: ignore[operator]


def _flat(model: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    return model.classifier(features).flatten(1)  # type: ignore[operator]


_STEM = ("conv1", "bn1", "relu", "maxpool")
_GOOGLENET = ("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3", "inception4a")
_GOOGLENET_END = ("inception4b", "inception4c", "inception4d", "inception4e", "maxpool4", "inception5a", "inception5b")
_INCEPTION = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2")
_INCEPTION_MIDDLE = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")
_FAMILIES: dict[str, _Family] = {
    "alexnet": _Family(_chain("features"), _flat_between("avgpool", "classifier"), "classifier.6", False),
    "convnext": _Family(_chain("features"), _chain("avgpool", "classifier"), "classifier.2", False),
    "densenet": _Family(_rectified, _pooled("classifier"), "classifier", True),
    "efficientnet": _Family(_chain("features"), _pooled("classifier"), "classifier.1", True),
    "googlenet": _Family(_inception((*_GOOGLENET, *_GOOGLENET_END)), _pooled("dropout", "fc"), "fc", True),
    "inception": _Family(
        _inception((*_INCEPTION, *_INCEPTION_MIDDLE, "Mixed_7a", "Mixed_7b", "Mixed_7c")), _pooled("dropout", "fc"), "fc", True
    ),
    "maxvit": _Family(
        lambda model, x: torch.nn.Sequential(*model.blocks)(model.stem(x)),  # type: ignore[misc,operator]
        _chain("classifier"),
        "classifier.5",
        False,
    ),
    "mnasnet": _Family(_chain("layers"), _pooled("classifier"), "classifier.1", True),
    "mobilenetv2": _Family(_chain("features"), _pooled("classifier"), "classifier.1", True),
    "mobilenetv3": _Family(_chain("features"), _flat_between("avgpool", "classifier"), "classifier.3", False),
    "regnet": _Family(_chain("stem", "trunk_output"), _pooled("fc"), "fc", True),
    "resnet": _Family(_chain(*_STEM, "layer1", "layer2", "layer3", "layer4"), _pooled("fc"), "fc", True),
    "shufflenetv2": _Family(_chain("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"), _pooled("fc"), "fc", True),
    "squeezenet": _Family(_chain("features"), _flat, "classifier.1", False),
    "swin_transformer": _Family(_swin, _pooled("head"), "head", True),
    "vgg": _Family(_chain("features"), _flat_between("avgpool", "classifier"), "classifier.6", False),
    "vision_transformer": _Family(_tokens, _class_token, "heads.head", False),
}
"""By file of torchvision.models."""
