"""Reader of checkpoint files: safetensors, and what `torch.save` writes, without running code that a file may hold."""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from spikedistill.errors import ConfigError

SAFETENSORS = ".safetensors"
_OBJECT = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message about an object that it does not load
SUFFIXES = (SAFETENSORS, ".pth", ".pt", ".tar", ".ckpt", ".bin")


def read_checkpoint(file: Path, checksum: str | None = None) -> Any:
    """Return the content of a checkpoint on the CPU: a state dict, or mappings around one.

    Allowed Python objects are numbers, strings, containers, tensors, and `argparse.Namespace`, which holds the options of many
    training scripts and is a plain record of values.

    Args:
        file: the checkpoint.
        checksum: sha256 of what is read, in hex, so that nobody can swap the file after it was checked; None: any.

    Raises:
        ConfigError: if the file cannot be read, is another one, is no checkpoint, or holds code.
    """
    try:
        content = file.read_bytes()
    except OSError as err:
        raise ConfigError(f"{file}: {err.strerror or err}") from None
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise ConfigError(
            f"{file} was changed after this stage was planned, or was changed while this stage started, or is another file: its "
            f"sha256 is not that in the spec, {checksum[:12]}…. Nothing was computed; plan and submit it again, under the id of "
            "the changed file"
        )
    return _parsed(file, content)


def _parsed(file: Path, content: bytes) -> Any:
    try:
        if file.suffix == SAFETENSORS:
            return load(content)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise ConfigError(_why_refused(file, err)) from None
    except Exception as err:  # torch.load raises whatever the content provokes
        raise ConfigError(
            f"{file}: not a checkpoint, or damaged ({_first_line(err)}); expected {', '.join(SUFFIXES[:3])} and the like, as "
            "safetensors or torch.save write them"
        ) from None


def _why_refused(file: Path, error: pickle.UnpicklingError) -> str:
    """Explain torch's refusal: objects of classes that could run code, or no pickle at all."""
    held = _OBJECT.search(str(error))
    if held is None:
        return f"{file}: not a checkpoint, or damaged ({_first_line(error)})"
    return (
        f"{file}: holds {held[1]}, and loading such objects can run code, so it is refused. If you trust its source, "
        "write its weights alone into a new file, in an environment where it loads: "
        'state = torch.load("OLD", weights_only=False); torch.save(state["state_dict"], "NEW.pth")'
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}"
