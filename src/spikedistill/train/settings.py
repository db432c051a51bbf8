"""The training recipe, which is part of a spec, and the configuration of the engine, which is not. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from spikedistill.components import Choice, Kind, Section
from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.streaming.order import ChunkedShuffle
from spikedistill.errors import ConfigError


class OptimizerConfig(Choice):
    """What turns gradients into new weights."""

    KIND: ClassVar[Kind] = "train.optimizers"

    name: str = Field("sgd", description="Optimizer: a name that `spikedistill list optimizers` shows; those of plug-ins, too.")
    params: dict[str, Any] = Field({}, description="Parameters of the optimizer, listed below under its name.")


class ScheduleConfig(Choice):
    """How the learning rate changes after warm-up."""

    KIND: ClassVar[Kind] = "train.schedules"

    name: str = Field("cosine", description="Schedule: a name that `spikedistill list schedules` shows; those of plug-ins, too.")
    per: Literal["epoch", "step"] = Field(
        "epoch", description="When the learning rate is set: at the start of each epoch, or at each step; during warm-up, too."
    )
    params: dict[str, Any] = Field({}, description="Parameters of the schedule, listed below under its name.")


def _none(params: Any, fitting: float) -> Iterator[tuple[str, str]]:
    """Yield no problem, for schedules and optimizers that have no function `problems`."""
    return iter(())


class TrainConfig(Section):
    """The recipe of one network; teachers and students have the same keys."""

    FORMER_KEYS: ClassVar[dict[str, str]] = {"decay": "is called weight_decay_on now, with the same values"}

    epochs: int = Field(
        ge=1, le=2**31 - 1, description="Number of passes over the training split; the network after the last one is kept."
    )
    batch_size: int = Field(
        ge=1,
        le=2**20,
        description="Global batch size in samples, split equally among all ranks: the number of GPUs does not change it.",
    )
    chunked_shuffle: ChunkedShuffle | None = Field(
        None,
        description="For data larger than memory: shuffle blocks of consecutive samples, and samples within a window; {} takes "
        "the default sizes. It changes results, most if data is stored class by class. Default: samples are shuffled freely.",
    )
    lr: float = Field(0.1, gt=0, description="Peak learning rate; after warm-up it follows `schedule`.")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="The optimizer.")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="The learning-rate schedule.")
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Momentum of sgd. Other optimizers have parameters of their own, such as betas of adamw.",
    )
    weight_decay: float = Field(
        5e-4,
        ge=0,
        description="With sgd an L2 penalty: weight_decay times the weight is added to its gradient. With adamw decoupled: each "
        "step takes lr times weight_decay times the weight from it.",
    )
    weight_decay_on: Literal["weights", "all"] = Field(
        "weights",
        description="Parameters that weight decay applies to: weights, those of two dimensions and more, which are those of "
        "convolutions and linear layers, and tokens and position embeddings of transformers; or all, biases and norms too.",
    )
    warmup_epochs: int = Field(
        0, ge=0, description="Epochs of linear warm-up, from lr / warmup_epochs in the first to lr in the last."
    )
    clip_grad_norm: float | None = Field(
        None,
        gt=0,
        description="Largest norm of the whole gradient; a larger one is scaled down to it. Default: no limit.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target that is spread over all classes, in the cross-entropy with the labels; for methods that "
        "have one.",
    )
    mixup: float = Field(0.0, ge=0, description="Mixup: alpha of the Beta distribution of the shares, 0.2 for instance; 0: none.")
    cutmix: float = Field(
        0.0,
        ge=0,
        description="CutMix: alpha of the Beta distribution of the areas, 1 for instance; 0: none. With mixup, each batch gets "
        "one of the two.",
    )
    mix_probability: float = Field(1.0, gt=0, le=1, description="Probability that mixup or cutmix is applied to a batch.")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights and of the statistics of batch norms, which "
        "is what is validated and kept; 0.999 for instance. Default: none.",
    )
    drop_path: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Stochastic depth: probability that a branch is left out, for architectures that have it.",
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
        "(`dataset.validation`), the earliest if several are equal.",
    )
    augment: Augment = Field(Augment(), description="Random augmentation of the training samples.")

    @model_validator(mode="after")
    def _check_warmup(self) -> TrainConfig:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _check_mixing(self) -> TrainConfig:
        if self.mix_probability < 1 and not self.mixes:
            raise ValueError("mix_probability has no effect without mixup or cutmix; set one of them")
        return self

    def problems(self, arch: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the keys that do not fit the optimizer, the schedule or the network, each with the reason.

        Args:
            arch: name of the architecture.
            entry: its entry in the table of architectures.
        """
        if "momentum" in self.model_fields_set and not getattr(self.optimizer.component, "USES_MOMENTUM", False):
            own = ", ".join(self.optimizer.component.Params.model_fields) or "none"
            yield "momentum", f"is not for {self.optimizer.name}, whose own are under optimizer.params ({own}); delete the key"
        for key, reason in getattr(self.optimizer.component, "problems", _none)(self.optimizer.checked_params, self.momentum):
            yield f"optimizer.params.{key}", reason
        for key, reason in getattr(self.schedule.component, "problems", _none)(self.schedule.checked_params, self.epochs):
            yield f"schedule.params.{key}", reason
        if self.drop_path and "drop_path" not in entry:
            yield (
                "drop_path",
                f"{arch} has no stochastic depth: those that do have drop_path in their entry; set it to 0",
            )

    @property
    def mixes(self) -> bool:
        """True if samples of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0


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
    cuda_graph: bool = Field(
        False,
        description="On a GPU, run each training step as one CUDA graph, which saves the host several hundred launches: faster "
        "where a GPU has few images per step. A graph is tested before it is used; a step that cannot be captured runs "
        "without.",
    )
    fuse: bool = Field(
        False,
        description="On a GPU, compute batch normalisation, the sum with a shortcut and LIF neurons as one kernel, and recompute "
        "them in backward instead of keeping potentials: about half the memory and fewer bytes moved. Spikes are the same, "
        "except where rounding decides. Fused blocks are not compiled.",
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
    gpu: str | None = Field(
        None,
        description="Model of the site's GPUs, for estimates alone, where the profile names none: v100, a100, h100, h200, "
        "rtx4090, or one that was measured. Default: the only measured one, else a100.",
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
