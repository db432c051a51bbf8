"""The policies of AutoAugment (Cubuk et al. 2019, arXiv:1805.09501, appendix), and the draw of one for each sample.

Letters: B batch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.loading.rng import SampleRng, Stream, below, uniform

Policy = Literal["cifar10", "imagenet"]
Variant = Literal["torchvision", "sealkd"]
"""torchvision's AutoAugment, or that of the code of SeAl-KD, TDD and ESD, an older one for Pillow images."""

_Step = tuple[str, float, int]  # operation, probability, strength 0..9
POLICIES: dict[Policy, tuple[tuple[_Step, _Step], ...]] = {
    "cifar10": (
        (("invert", 0.1, 0), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 0)),
        (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
        (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
        (("color", 0.9, 9), ("equalize", 0.6, 0)),
        (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 0), ("invert", 0.1, 0)),
        (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
        (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
        (("color", 0.4, 0), ("equalize", 0.6, 0)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    ),
}


def policy_of(name: Policy, variant: Variant) -> tuple[tuple[_Step, _Step], ...]:
    """Return a policy as a variant has it; SeAl-KD's code has another probability for CIFAR, and one entry less for ImageNet."""
    policy = POLICIES[name]
    if variant == "torchvision":
        return policy
    if name == "imagenet":
        return policy[:-1]
    changed = (("equalize", 0.2, 0), ("equalize", 0.8, 0))
    return (*policy[:16], changed, *policy[17:])


class Steps(NamedTuple):
    """One of the two operations of each sample's sub-policy, [B] each.

    Attributes:
        operation: name of the operation.
        strength: 0 to 9.
        negative: whether the operation goes in the opposite direction.
        applied: whether the operation is applied at all.
    """

    operation: npt.NDArray[np.str_]
    strength: npt.NDArray[np.int64]
    negative: npt.NDArray[np.bool_]
    applied: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> Steps:
        """Return the steps of some samples."""
        return Steps(self.operation[rows], self.strength[rows], self.negative[rows], self.applied[rows])


def choose_steps(policy: tuple[tuple[_Step, _Step], ...], rng: SampleRng) -> tuple[Steps, Steps]:
    """Choose both operations of each sample at random, with their strengths and directions."""
    words = rng.words(Stream.AUTO_AUGMENT, 8)
    chosen = below(words[:, 0], len(policy))
    halves = []
    for half in range(2):
        table = [policy[number][half] for number in chosen]
        operation, probability, strength = (np.array(column) for column in zip(*table, strict=True))
        applied = uniform(words[:, 1 + half]) < probability
        halves.append(Steps(operation, strength, below(words[:, 3 + half], 2) == 1, applied))
    return halves[0], halves[1]
