"""Random draws of the encoding of a student's images: functions of seed, epoch and position, not of ranks."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from spikedistill.data.loading.resample import send
from spikedistill.data.loading.rng import SampleRng, Stream
from spikedistill.models import Student
from spikedistill.train.objective import Batch

_WORDS = 4  # the fewest that a sample can draw; one is used


def sample_keys(model: nn.Module, batch: Batch, seed: int) -> Tensor | None:
    """Return the keys of the samples of a batch, int64 [B] on its device, if the network is a student with an encoder."""
    if not isinstance(model, Student) or model.encoder is None:
        return None
    start = batch.step * batch.global_size + batch.first
    rng = SampleRng(seed, batch.epoch, np.arange(start, start + len(batch.labels)))
    words = rng.words(Stream.ENCODING, _WORDS)[:, 0]
    return send(words.view(np.int64), batch.inputs.device)


def give_keys(model: nn.Module, keys: Tensor | None) -> None:
    """Give the encoder of a student, if it has one, the keys of the samples of its next batch."""
    if isinstance(model, Student) and model.encoder is not None:
        model.encoder.keys = keys
