"""The training recipe: everything about the optimisation that changes the result. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from spikedistill.data.augment import Augment


class TrainConfig(BaseModel):
    """How one network is trained; the same model for teachers and students."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(ge=1, description="Passes over the training split.")
    batch_size: int = Field(
        ge=1, description="Global batch size in samples, shared by all ranks: the number of GPUs does not change it."
    )
    lr: float = Field(0.1, gt=0, description="Peak learning rate; annealed by a cosine to 0, once per epoch.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, without Nesterov.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty, added to the gradient.")
    decay: Literal["weights", "all"] = Field(
        "weights", description="What decays: the weights of convolutions and linear layers, or all parameters."
    )
    warmup_epochs: int = Field(0, ge=0, description="Epochs of linear warm-up from lr / warmup_epochs to lr.")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: autocast of the forward pass; weights, losses and membranes stay float32."
    )
    sync_batchnorm: bool = Field(False, description="Batch statistics over all ranks instead of each rank's own.")
    augment: Augment = Field(default_factory=Augment, description="Random changes to the training samples.")
