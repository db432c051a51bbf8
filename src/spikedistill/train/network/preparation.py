"""Prepare a network for training: memory layout, compilation, activation checkpointing, DDP on several ranks; and its teacher."""

from __future__ import annotations

import functools
import inspect
import shutil

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from spikedistill.data.malloc import keep_freed_memory
from spikedistill.errors import ConfigError
from spikedistill.models import Teacher
from spikedistill.train.blocks import checkpoint_blocks, compile_blocks, compile_neurons
from spikedistill.train.distributed import World
from spikedistill.train.network.batchnorm import synchronise
from spikedistill.train.network.folding import fold_batch_norms
from spikedistill.train.network.fusion import fuse_normalisation
from spikedistill.train.settings import EngineConfig, TrainConfig

COMPILERS = ("g++", "clang++")
_KNOWN_NORMS = ("torch", "spikedistill", "spikingjelly", "timm", "torchvision")
"""Packages whose batch normalisations do not read running statistics in training."""

_SYNC_OPTION = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")  # the name that torch has for it, of which the second is the older
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)


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
        if config.precision == "bf16":
            refuse_single_pixels(model)
    if world.world_size > 1 and config.sync_batchnorm:
        synchronise(model)
    if engine.fuse and device.type == "cuda":
        fuse_normalisation(model)
    if engine.compile:
        _compile(model, device)
    if engine.checkpoint_activations:
        checkpoint_blocks(model)
    if world.world_size == 1:
        return model
    device_ids = [device] if device.type == "cuda" else None
    sync = {_SYNC_OPTION: not has_running_statistics_alone(model)}
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True, **sync)  # type: ignore[arg-type]


def has_running_statistics_alone(model: nn.Module) -> bool:
    """Return whether no buffer of a network takes part in training, so that each rank may keep its own.

    Training normalises by the statistics of the batch; the running ones are validated and kept, and they are those of rank 0.
    Other buffers, and those of batch normalisations from plug-ins, may be read in training: ranks share rank 0's.
    """
    norms = (m for m in model.modules() if isinstance(m, _BatchNorm) and type(m).__module__.split(".")[0] in _KNOWN_NORMS)
    statistics = {id(buffer) for norm in norms for buffer in norm.buffers(recurse=False)}
    return all(id(buffer) in statistics for buffer in model.buffers())


def prepare_teacher(teacher: Teacher, device: torch.device) -> Teacher:
    """Prepare a teacher in place for its forward passes during the training of a student; return it.

    It gets the layout of the student; on a GPU, batch normalisations are folded into convolutions.
    """
    teacher.requires_grad_(False).eval().to(device)
    if device.type == "cuda":
        fold_batch_norms(teacher)
    lay_out_channels_last(teacher)
    return teacher


def lay_out_channels_last(model: nn.Module) -> None:
    """Change the memory layout of two-dimensional convolutions: faster, same values; other layers cannot have it."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def refuse_single_pixels(model: nn.Module) -> None:
    """Make the network refuse, in its forward pass, strided convolutions of maps of 1x1 in bf16 on a CPU.

    oneDNN's gradient of their weights contains uninitialised memory: seen with torch 2.15, and not in float32.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 and max(layer.kernel_size) > 1:
            layer.register_forward_pre_hook(functools.partial(_refuse_single_pixel, name))


def _refuse_single_pixel(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if inputs[0].shape[-2:] == (1, 1):
        raise ConfigError(
            f"train.precision: bf16 gives wrong gradients on a CPU where a strided convolution gets a map of 1x1, as {name} "
            "does here; set it to float32, or enlarge the inputs with dataset.inputs.resize"
        )


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
