"""How training runs, as opposed to what it trains: nothing here is part of a spec. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spikedistill.errors import ConfigError


class EngineOptions(BaseModel):
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


def parse_engine_options(text: str) -> EngineOptions:
    """Read options from their JSON.

    Raises:
        ConfigError: if they are not valid.
    """
    try:
        return EngineOptions.model_validate_json(text)
    except ValidationError as err:
        raise ConfigError(f"--engine: not options of the training engine: {err}") from err
