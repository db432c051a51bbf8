"""The training recipe, which is part of a spec, and the configuration of the engine, which is not. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from spikedistill.components import Section
from spikedistill.data.loading.augment import Augment
from spikedistill.errors import ConfigError


class TrainConfig(Section):
    """The recipe of one network; teachers and students have the same keys."""

    FORMER_KEYS: ClassVar[dict[str, str]] = {
        "decay": "is called weight_decay_on now, with the same values",
        "schedule": "was removed, since there was only one schedule: the learning rate follows a cosine; delete the key",
    }

    epochs: int = Field(
        ge=1, le=2**31 - 1, description="Number of passes over the training split; the network after the last one is kept."
    )
    batch_size: int = Field(
        ge=1,
        le=2**20,
        description="Global batch size in samples, split equally among all ranks: the number of GPUs does not change it.",
    )
    lr: float = Field(
        0.1, gt=0, description="Peak learning rate; it is set once per epoch and, after warm-up, follows half a cosine towards 0."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, without Nesterov.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty: weight_decay times the weight is added to its gradient.")
    weight_decay_on: Literal["weights", "all"] = Field(
        "weights",
        description="Parameters that weight decay applies to: the weights of convolutions and linear layers, or all "
        "parameters (biases and norms too).",
    )
    warmup_epochs: int = Field(
        0, ge=0, description="Epochs of linear warm-up, from lr / warmup_epochs in the first to lr in the last."
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="bf16: the forward pass runs under autocast; weights, membrane potentials and losses stay in float32.",
    )
    sync_batchnorm: bool = Field(
        False, description="Compute batch statistics over the samples of all ranks instead of each rank's own samples."
    )
    select: Literal["last", "best"] = Field(
        "last",
        description="The network that is kept: that of the last epoch, or the best by accuracy on the validation split "
        "(`dataset.validation`), the earliest of equals.",
    )
    augment: Augment = Field(Augment(), description="Random augmentation of the training samples.")

    @model_validator(mode="after")
    def _check_warmup(self) -> TrainConfig:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        return self


class EngineConfig(Section):
    """Speed, memory and checkpoints of training on one site; nothing here is part of an artifact's id."""

    checkpoint_minutes: float = Field(
        10.0, ge=0, description="Maximum time between checkpoints within an epoch; one is also written after every epoch."
    )
    rank_timeout_minutes: float = Field(
        30.0, gt=0, description="Timeout of collectives: a rank that does not answer for this long counts as lost, and all stop."
    )
    compile: bool = Field(
        False,
        description="Compile with torch.compile when training starts: on a GPU each block of the network; on a CPU the neurons, "
        "which needs g++ or clang++ and takes some seconds.",
    )
    checkpoint_activations: bool = Field(
        False,
        description="Activation checkpointing: keep only the inputs of blocks for the backward pass and recompute the rest; less "
        "memory, more time.",
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="Gradient accumulation: number of parts that each rank processes its batch in, one after the other; less "
        "memory. Batch statistics are those of a part, as with that many times more ranks.",
    )


def parse_engine_config(text: str) -> EngineConfig:
    """Parse the configuration of the engine from JSON.

    Raises:
        ConfigError: if it is not valid.
    """
    try:
        return EngineConfig.model_validate_json(text)
    except ValidationError as err:
        raise ConfigError(f"--engine: not a valid configuration of the training engine: {err}") from err
