"""The figures for estimates: from the record of part `constants` into a file that `spikedistill plan` reads. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.records import write
from spikedistill.errors import ConfigError
from spikedistill.plan.costs.gpus import MeasuredGpus, measured_gpus, measured_path

FILE = "gpus.json"


def figures_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of each GPU in a record of part `constants`, checked."""
    found = {"gpus": record["results"]["constants"]["figures"]["gpus"]}
    MeasuredGpus.model_validate(found)
    return found["gpus"]


def save(record: Mapping[str, Any], folder: Path) -> Path:
    """Write the figures beside the records; return the file."""
    write(folder / FILE, {"gpus": figures_of(record)})
    return folder / FILE


def install(folder: Path) -> Path:
    """Add the figures of a folder to those of the site, in place of earlier ones of the same GPU; return the file.

    Raises:
        ConfigError: if they were not measured yet, or the file that is there cannot be used.
    """
    try:
        new = json.loads((folder / FILE).read_text(encoding="utf-8"))["gpus"]
    except OSError:
        raise ConfigError(f"--install: nothing was measured yet: {folder / FILE} is missing; run part constants first") from None
    path, known = measured_path(), {}
    if path.exists():
        measured_gpus()  # an error if it is not valid
        known = json.loads(path.read_text(encoding="utf-8"))["gpus"]
    write(path, {"gpus": known | new})
    return path
