"""A trained network that takes samples as they are stored and says what it expects.

Letters: T step or frame, B batch, C channel, H, W of a stored sample, h, w of the network's input, D neuron, K class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikedistill.data.loading.inputs import crop_images, encode_frames, normalize
from spikedistill.data.loading.sample_source import indexable
from spikedistill.evaluate.layers import find_layers
from spikedistill.models import ModelOutput, Student, Teacher
from spikedistill.neurons.firing import observed
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.plan.stages import NetworkSpec

Batch = npt.NDArray[Any] | Tensor


@dataclass(frozen=True)
class TrainedOutput(ModelOutput):
    """The result of a trained network.

    Attributes:
        spikes: of each layer of spiking neurons, by name, bool [T, B, ...]; int32 for neurons that fire several spikes in a step,
            or negative ones; None if they were not asked for.
    """

    spikes: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class InputFacts:
    """What a trained network takes.

    Attributes:
        kind: "images" or "frames" (integrated events).
        stored: shape of a sample as it is stored: C, H, W or T, 2, H, W.
        size: h, w of the network's input.
        mean: per channel of images, in [0, 1]; empty for frames.
        std: per channel of images, in [0, 1]; empty for frames.
    """

    kind: str
    stored: tuple[int, ...]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> InputFacts:
        """Return what the key `input` in the model.json of an export describes."""
        values = (tuple(entry[key] or ()) for key in ("stored", "size", "mean", "std"))
        return cls(entry["kind"], *values)

    def shape(self, size: Sequence[int]) -> tuple[int | str, ...]:
        """Return the shape of a batch of samples of some height and width, with "B" for the number of samples."""
        if self.kind == "frames":
            return self.stored[0], "B", self.stored[1], *size
        return "B", self.stored[0], *size


class TrainedNetwork(nn.Module):
    """A trained teacher or student with what it takes, in evaluation mode and without gradients of its weights.

    Attributes:
        network: the network itself, on inputs that are ready for it.
        spec: everything that it was made by.
        class_names: names of the classes, in the order of the logits.
        takes: what a batch looks like.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Student | Teacher, spec: NetworkSpec, class_names: Sequence[str], takes: InputFacts) -> None:
        """Put the parts together; `load` does it."""
        super().__init__()
        self.network = network
        self.spec = spec
        self.class_names = tuple(class_names)
        self.takes = takes
        for name, values in (("mean", takes.mean), ("std", takes.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)
        self.eval()

    def forward(self, batch: Batch, *, spikes: bool = False) -> TrainedOutput:
        """Return logits, features and, on request, the spikes of each layer.

        Args:
            batch: images [B, C, H, W] or event frames [T, B, 2, H, W]. Integers are samples as they are stored, 0..255 or counts
                of events, and go through what the network was trained with: crop, size, scale. Floats are ready for the network,
                of size h, w.
            spikes: whether to return them; an ANN has none.

        Raises:
            ValueError: if the batch does not fit the network: its shape, or the type or range of its values.
        """
        inputs = self.prepare(batch)
        if not spikes:
            return TrainedOutput(**vars(self.network(inputs)))
        seen: dict[str, Tensor] = {}

        def see(name: str, layer: nn.Module, x: Tensor, out: Tensor) -> None:
            assert isinstance(layer, SpikingNeuron)
            is_binary = layer.most_spikes == 1 and not layer.signed
            fired = out.detach() != 0 if is_binary else out.detach().round().to(torch.int32)
            seen[name] = fired.unflatten(0, (self.time_steps, -1))

        with observed(find_layers(self.network, "neuron"), see):
            return TrainedOutput(**vars(self.network(inputs)), spikes=seen)

    @torch.no_grad()
    def predict(self, batch: Batch) -> npt.NDArray[np.int64]:
        """Return the number of the predicted class of each sample [B]; a student's is that of its mean logits over time."""
        return self(batch).prediction.argmax(-1).cpu().numpy()

    @property
    def time_steps(self) -> int:
        """T of a student, 1 of an ANN."""
        return self.network.time_steps if isinstance(self.network, Student) else 1

    def prepare(self, batch: Batch) -> Tensor:
        """Return the input of the network for a batch: checked, on its device, as in the evaluation.

        Raises:
            ValueError: see `forward`.
        """
        samples = torch.as_tensor(batch)
        if samples.dtype == torch.bool or samples.is_complex():
            raise ValueError(f"expected integers, as stored, or floats, ready for the network; found {samples.dtype}")
        ready = samples.is_floating_point()
        self._check_shape(samples, self.takes.size if ready else self.takes.stored[-2:], "ready for it" if ready else "as stored")
        samples = indexable(samples).to(self.mean.device)
        if ready:
            return samples.to(torch.float32)
        return self._frames(samples) if self.takes.kind == "frames" else self._images(samples)

    def _check_shape(self, samples: Tensor, size: Sequence[int], state: str) -> None:
        expected, found = self.takes.shape(size), tuple(samples.shape)
        if len(found) == len(expected) and all(a in ("B", b) for a, b in zip(expected, found, strict=True)) and 0 not in found:
            return
        text = f"{self.spec.arch} takes {self.takes.kind} {state}, [{', '.join(map(str, expected))}]; found {list(found)}"
        if self.takes.kind == "frames" and len(found) == 5 and found[1] == expected[0]:
            text += ": the time step comes first, so swap the first two axes"
        raise ValueError(text)

    def _images(self, images: Tensor) -> Tensor:
        low, high = (int(value) for value in images.aminmax())
        if low < 0 or high > 255:
            raise ValueError(f"expected images of 0 to 255; found {low} to {high}")
        return normalize(crop_images(images.to(torch.uint8), self.spec.inputs), self.mean, self.std)

    def _frames(self, frames: Tensor) -> Tensor:
        encoded = encode_frames(frames.transpose(0, 1), self.spec.inputs)
        return encoded.transpose(0, 1).to(torch.float32).contiguous()
