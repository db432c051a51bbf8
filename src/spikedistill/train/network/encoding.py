"""Random draws of the encoding of a student's images: functions of seed, epoch and position, not of ranks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from spikedistill.data.loading.rng import SampleRng, Stream
from spikedistill.models import Student
from spikedistill.train.objective import Batch

_WORDS = 4  # the fewest that a sample can draw; one is used


def key_samples(model: nn.Module, batch: Batch, seed: int) -> None:
    """Give the encoder of a student, if it has one, the keys of the samples of its next batch."""
    if not isinstance(model, Student) or model.encoder is None:
        return
    start = batch.step * batch.global_size + batch.first
    rng = SampleRng(seed, batch.epoch, np.arange(start, start + len(batch.labels)))
    words = rng.words(Stream.ENCODING, _WORDS)[:, 0]
    model.encoder.keys = torch.from_numpy(words.view(np.int64).copy()).to(batch.inputs.device)
