"""The training recipe: everything about the optimisation that changes the result. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spikedistill.data.loading.augment import Augment


class TrainConfig(BaseModel):
    """How one network is trained; the same model for teachers and students."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    decay: Literal["weights", "all"] = Field(
        "weights",
        description="What decays: the weights of convolutions and linear layers, or all parameters (biases, norms) too.",
    )
    schedule: Literal["cosine"] = Field("cosine", description="Shape of the learning rate after warm-up.")
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
