"""CKDSNN (arXiv 2511.06902): distillation of the teacher's saliency map (SAMD) and of noise-smoothed logits (NLD)."""

from __future__ import annotations

import math
from typing import Literal, get_args

from pydantic import Field

from spikedistill.components import ComponentParams, unknown
from spikedistill.distill.ce import mean_cross_entropy
from spikedistill.distill.kd import kd_divergence
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import at_least_float32, full_precision
from spikedistill.lazy import torch

MapVariant = Literal["code", "paper", "per_sample"]
NoiseVariant = Literal["code", "paper", "paper_attached"]

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = CE of the mean logits + beta * SAMD + gamma * NLD."""

    beta: float = Field(1.0, ge=0, description="Weight of SAMD, the distillation of activation maps.")
    gamma: float = Field(1.0, ge=0, description="Weight of NLD, the distillation of noise-smoothed logits.")
    temperature: float = Field(2.0, gt=0, description="Softmax temperature tau of both terms.")
    samd_variant: MapVariant = Field(
        "code",
        description="code: maps scaled to [0, 1] over the whole batch, no factor tau^2. paper: maps not scaled, factor tau^2. "
        "per_sample: each map scaled to [0, 1], factor tau^2.",
    )
    nld_variant: NoiseVariant = Field(
        "code",
        description="code: probabilities mixed with those of noise that is scaled by the variance of the logits. paper: noise, "
        "scaled by the standard deviation of the logits without its gradient, added to the logits. paper_attached: the same with "
        "that gradient.",
    )
    noise_weight: float = Field(0.9, ge=0, le=1, description="With nld_variant: code, share w of the student; 1: no noise.")
    noise_scale: float = Field(0.1, ge=0, description="With the other variants of NLD, factor lambda of the noise; 0: no noise.")


@full_precision
def class_activation_map(features: torch.Tensor, logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return M[b] = relu(sum over d of W[argmax a[b], d] * F[b, d]), the teacher's map for its predicted class.

    Args:
        features: F [B, D, h, w].
        logits: a [B, C].
        weight: W [C, D] of the linear layer after global average pooling.

    Returns:
        M [B, h, w], without gradient.
    """
    chosen = weight.detach()[logits.argmax(-1)][..., None, None]
    return torch.relu((chosen * features.detach()).sum(1))


def spike_activation_map(features: torch.Tensor) -> torch.Tensor:
    """Return M[b] = sum over t and d of F[t, b, d] of features [T, B, D, h, w]: [B, h, w], at least float32."""
    return features.sum((0, 2), dtype=at_least_float32(features.dtype))


@full_precision
def map_divergence(student: torch.Tensor, teacher: torch.Tensor, *, variant: MapVariant, temperature: float) -> torch.Tensor:
    """Return KL(teacher || student) of the softmax over positions of two maps, averaged over samples.

    With N(M) = (M - min M) / (max(M - min M) + 1e-3), with the gradient of min and max, and P = softmax over h * w:

    - `code`: N over the whole batch, P of N(M) / tau with 1e-10 added to every probability, no factor tau^2;
    - `per_sample`: N over each sample, P of N(M) / tau, factor tau^2;
    - `paper`: P of M / tau, factor tau^2.

    Args:
        student: map [B, h, w].
        teacher: map [B, h, w], without gradient.
        variant: which of the three.
        temperature: tau > 0.

    Returns:
        Scalar in nats.

    Raises:
        ValueError: if the variant does not exist.
    """
    student, teacher = student.flatten(1), teacher.flatten(1)
    if variant == "paper":
        return kd_divergence(student, teacher, temperature)
    if variant == "per_sample":
        return kd_divergence(_scaled_each(student), _scaled_each(teacher), temperature)
    if variant == "code":
        p, q = (torch.softmax(_scaled(maps, maps.min(), maps.max()) / temperature, dim=-1) + 1e-10 for maps in (student, teacher))
        return (q * (q / p).log()).sum(-1).mean()
    raise ValueError(unknown("variant", variant, get_args(MapVariant)))


def _scaled_each(maps: torch.Tensor) -> torch.Tensor:
    return _scaled(maps, maps.min(1, keepdim=True).values, maps.max(1, keepdim=True).values)


def _scaled(maps: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (maps - low) / (high - low + 1e-3)


def activation_map_loss(
    student_features: torch.Tensor,
    teacher_features: torch.Tensor,
    teacher_logits: torch.Tensor,
    teacher_weight: torch.Tensor,
    *,
    variant: MapVariant,
    temperature: float = 2.0,
    steps_per_row: int = 1,
) -> torch.Tensor:
    """Return SAMD: `map_divergence` of `spike_activation_map` and `class_activation_map`.

    If the maps differ in size, which they never do in the authors' networks, the larger one is average-pooled to the smaller.

    Args:
        student_features: last features [T, B, D', h, w]; D' may differ from D, because the maps sum over it.
        teacher_features: last features F [B, D, h, w].
        teacher_logits: a [B, C].
        teacher_weight: W [C, D].
        variant: of `map_divergence`.
        temperature: tau > 0.
        steps_per_row: number of time steps that `student_features[i]` is the mean of; the map sums over all steps.

    Returns:
        Scalar in nats; 0 for maps with a single position.

    Raises:
        ValueError: if the variant does not exist.
    """
    student = steps_per_row * spike_activation_map(student_features)
    teacher = class_activation_map(teacher_features, teacher_logits, teacher_weight)
    if student.shape != teacher.shape:
        height, width = (min(sides) for sides in zip(student.shape[1:], teacher.shape[1:], strict=True))
        student, teacher = (torch.nn.functional.adaptive_avg_pool2d(maps, (height, width)) for maps in (student, teacher))
    return map_divergence(student, teacher, variant=variant, temperature=temperature)


@full_precision
def noise_smoothed_loss(
    logits: torch.Tensor,
    teacher: torch.Tensor,
    noise: torch.Tensor,
    *,
    temperature: float,
    noise_weight: float,
    variant: NoiseVariant,
    noise_scale: float = 0.1,
) -> torch.Tensor:
    """Return NLD = tau^2 * KL(softmax(a / tau) || P), averaged over samples, where noise smooths the student's P.

    With mean and std (unbiased) of each row of z, and S the softmax over classes:

    - `code`: P = w S(z / tau) + (1 - w) S(eps / tau), eps = mean + n * std^2, with the gradient of mean and std;
    - `paper`: P = S((z + lambda * eps) / tau), eps = mean + n * std, without the gradient of mean and std;
    - `paper_attached`: as `paper`, with the gradient of mean and std.

    Args:
        logits: z [B, C], averaged over time; C > 1.
        teacher: a [B, C]; it gets no gradient.
        noise: n [B, C], standard normal, redrawn at every training step.
        temperature: tau > 0.
        noise_weight: w of `code`.
        variant: which of the three.
        noise_scale: lambda of `paper` and `paper_attached`.

    Returns:
        Scalar in nats.

    Raises:
        ValueError: if the variant does not exist.
    """
    if variant == "code":
        var, mean = torch.var_mean(logits, dim=-1, keepdim=True)
        smoothed = torch.logaddexp(
            torch.log_softmax(logits / temperature, dim=-1) + _log(noise_weight),
            torch.log_softmax((mean + noise * var) / temperature, dim=-1) + _log(1 - noise_weight),
        )
        # log-probabilities are their own log-softmax, so multiply by the temperature that kd_divergence divides by
        return kd_divergence(temperature * smoothed, teacher, temperature)
    if variant in ("paper", "paper_attached"):
        std, mean = torch.std_mean(logits if variant == "paper_attached" else logits.detach(), dim=-1, keepdim=True)
        return kd_divergence(logits + noise_scale * (mean + noise * std), teacher, temperature)
    raise ValueError(unknown("variant", variant, get_args(NoiseVariant)))


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "features", "noise"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    assert inputs.features is not None and inputs.teacher_features is not None and inputs.teacher_weight is not None
    assert inputs.noise is not None, "the stage provides what a method needs"
    samd = activation_map_loss(
        inputs.features,
        inputs.teacher_features,
        inputs.teacher,
        inputs.teacher_weight,
        variant=params.samd_variant,
        temperature=params.temperature,
        steps_per_row=inputs.steps_per_row,
    )
    nld = noise_smoothed_loss(
        inputs.logits.mean(0, dtype=at_least_float32(inputs.logits.dtype)),
        inputs.teacher,
        inputs.noise,
        temperature=params.temperature,
        noise_weight=params.noise_weight,
        variant=params.nld_variant,
        noise_scale=params.noise_scale,
    )
    return {
        "ce": mean_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "samd": params.beta * samd,
        "nld": params.gamma * nld,
    }
