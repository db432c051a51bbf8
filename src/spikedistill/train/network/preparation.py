"""Prepare a network for training: memory layout, compilation, activation checkpointing, DDP on several ranks."""

from __future__ import annotations

import shutil

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from spikedistill.data.malloc import keep_freed_memory
from spikedistill.errors import ConfigError
from spikedistill.train.blocks import checkpoint_blocks, compile_blocks, compile_neurons
from spikedistill.train.distributed import World
from spikedistill.train.network.batchnorm import synchronise
from spikedistill.train.settings import EngineConfig, TrainConfig

COMPILERS = ("g++", "clang++")


def prepare(model: nn.Module, config: TrainConfig, engine: EngineConfig, world: World) -> nn.Module:
    """Prepare a network in place; return what is called in training: itself, or on several ranks its DDP wrapper.

    Raises:
        ConfigError: if the recipe or the engine's configuration cannot run here.
    """
    device = world.device
    _check_parts(config, engine, world)
    lay_out_channels_last(model)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    if world.world_size > 1 and config.sync_batchnorm:
        synchronise(model, device)
    if engine.compile:
        _compile(model, device)
    if engine.checkpoint_activations:
        checkpoint_blocks(model)
    if world.world_size == 1:
        return model
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def lay_out_channels_last(model: nn.Module) -> None:
    """Change the memory layout of two-dimensional convolutions: faster, same values; others cannot have it."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def _check_parts(config: TrainConfig, engine: EngineConfig, world: World) -> None:
    per_rank = config.batch_size // world.world_size
    if per_rank % engine.accumulate:
        raise ConfigError(
            f"engine.accumulate {engine.accumulate} does not divide the {per_rank} samples that each of the "
            f"{world.world_size} ranks gets of train.batch_size {config.batch_size}; change one of them"
        )


def _compile(model: nn.Module, device: torch.device) -> None:
    """Compile whole blocks on a GPU; on a CPU only the neurons, which takes seconds: convolutions are the library's there."""
    if device.type == "cuda":
        compile_blocks(model)
        return
    if not any(shutil.which(name) for name in COMPILERS):
        raise ConfigError(
            f"engine.compile: needs one of {', '.join(COMPILERS)}, but none is installed; install one, or set it to false"
        )
    compile_neurons(model)
