"""The training recipe, which is part of a spec, and the engine's options, which are not. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikedistill.data.loading.augment import Augment
from spikedistill.errors import ConfigError


class TrainConfig(BaseModel):
    """How one network is trained; the same model for teachers and students."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FORMER_KEYS: ClassVar[dict[str, str]] = {
        "decay": "is called weight_decay_on now, with the same values",
        "schedule": "was removed, since there was only one: the learning rate follows a cosine; delete the key",
    }

    epochs: int = Field(ge=1, description="Passes over the training split; the network after the last one counts.")
    batch_size: int = Field(
        ge=1,
        description="Global batch size in samples, shared equally by all ranks: the number of GPUs does not change it.",
    )
    lr: float = Field(
        0.1, gt=0, description="Peak learning rate; set once per epoch, after warm-up along half a cosine towards 0."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, without Nesterov.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty: this times the weight is added to its gradient.")
    weight_decay_on: Literal["weights", "all"] = Field(
        "weights",
        description="Parameters that weight decay applies to: the weights of convolutions and linear layers, or all "
        "parameters (biases and norms too).",
    )
    warmup_epochs: int = Field(
        0, ge=0, description="Epochs of linear warm-up, lr / warmup_epochs in the first and lr in the last."
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="bf16: forward passes under autocast; weights, membrane potentials and losses stay float32.",
    )
    sync_batchnorm: bool = Field(
        False, description="Batch statistics over the samples of all ranks instead of over each rank's own."
    )
    augment: Augment = Field(Augment(), description="Random changes to the training samples.")

    @model_validator(mode="after")
    def _check_warmup(self) -> TrainConfig:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        return self


class EngineConfig(BaseModel):
    """Speed, memory and safety of training on one site."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint_minutes: float = Field(
        10.0, ge=0, description="Longest time without a checkpoint, which is also written after every epoch."
    )
    rank_timeout_minutes: float = Field(
        30.0, gt=0, description="A rank that did not answer for so long counts as lost, and the others stop."
    )
    compile: bool = Field(
        False,
        description="Make code for this network with torch.compile when training starts: on a GPU, of each block; on a CPU, of "
        "the neurons, which needs g++ or clang++ and some seconds.",
    )
    checkpoint_activations: bool = Field(
        False, description="Keep only the inputs of blocks for backward and compute the rest again: less memory, more time."
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="Parts into which each rank cuts its batch, one after the other: less memory. Batch statistics are those of "
        "a part, as with that many ranks.",
    )


def parse_engine_config(text: str) -> EngineConfig:
    """Read options from their JSON.

    Raises:
        ConfigError: if they are not valid.
    """
    try:
        return EngineConfig.model_validate_json(text)
    except ValidationError as err:
        raise ConfigError(f"--engine: not options of the training engine: {err}") from err
