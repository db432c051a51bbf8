"""The GPUs that estimates know: from data sheets, in gpus.json, and as `make gpu` measured them on a site. Imports no torch.

A file of measured figures is named by the environment variable SPIKEDISTILL_GPUS; without it, it is `spikedistill/gpus.json` in
the user's folder for configuration (XDG_CONFIG_HOME, else ~/.config). docs/gpu.md shows one.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spikedistill.errors import ConfigError

DEFAULT = "a100"
"""Assumed where nothing names the GPU: in the middle of those in use today."""

VARIABLE = "SPIKEDISTILL_GPUS"
PCIE = 1e10  # bytes per second, of the exchange of gradients without a faster link
WORD = re.compile(r"[a-z]+|\d+")
SLICE = re.compile(r"\d+g\.\d+gb")  # a part of a GPU (MIG), as Slurm and the driver name it


@dataclass(frozen=True)
class Gpu:
    """The sustained performance of a model of GPU in training.

    Attributes:
        label: its name for users.
        memory_mb: its memory.
        flops: floating-point operations per second of convolutions, by `train.precision`; a multiply-accumulate is two.
        bandwidth: bytes per second read and written by elementwise operations.
        link: bytes per second at which gradients are summed over the GPUs of a node.
        launch_s: time that the host needs for one operation of a step.
        origin: where the choice and the figures come from, for users.
    """

    label: str
    memory_mb: float
    flops: Mapping[str, float]
    bandwidth: float
    link: float
    launch_s: float
    origin: str = "figures of its data sheet"

    @property
    def described(self) -> str:
        """Return the name with its origin."""
        return f"{self.label} ({self.origin})"


class MeasuredTflops(BaseModel):
    """Sustained rates of convolutions in TFLOP/s."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    float32: float = Field(gt=0, allow_inf_nan=False)
    bf16: float = Field(gt=0, allow_inf_nan=False)


class MeasuredGpu(BaseModel):
    """One GPU as `python -m benchmarks.gpu` measured it; further keys describe the measurement."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    label: str = Field(min_length=1, max_length=100, pattern=r"^[\w .()/+-]+$")
    memory_gb: float = Field(gt=0, allow_inf_nan=False)
    tflops: MeasuredTflops
    bandwidth_gb_s: float = Field(gt=0, allow_inf_nan=False)
    launch_us: float = Field(gt=0, allow_inf_nan=False)
    link_gb_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    measured_on: str = Field("", max_length=30, pattern=r"^[\w :.+-]*$")

    def as_gpu(self, key: str) -> Gpu:
        """Return the figures in base units; the link, which takes several GPUs to measure, may be that of the data sheet."""
        published = _published().get(key)
        return Gpu(
            label=self.label,
            memory_mb=1000 * self.memory_gb,
            flops={name: 1e12 * rate for name, rate in self.tflops.model_dump().items()},
            bandwidth=1e9 * self.bandwidth_gb_s,
            link=1e9 * self.link_gb_s if self.link_gb_s else published.link if published else PCIE,
            launch_s=1e-6 * self.launch_us,
            origin=f"measured {self.measured_on}".strip(),
        )


class MeasuredGpus(BaseModel):
    """The content of a file of measured figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    gpus: dict[str, MeasuredGpu] = Field(min_length=1)


def choose_gpu(named: str | None, configured: str | None) -> Gpu:
    """Return the figures of the GPU that a stage will get.

    Args:
        named: model that the profile requests, as Slurm calls it, such as `a100` or `nvidia_h100_80gb_hbm3`; None: any.
        configured: `engine.gpu`; None: not set.

    Raises:
        ConfigError: if `engine.gpu` is not known, or the file of measured figures cannot be used.
    """
    measured = measured_gpus()
    known = {**_published(), **measured}
    if named:
        if key := _matching(named, known):
            return replace(known[key], origin=f"as the profile says, {known[key].origin}")
        assumed = _assumed(known, measured, configured)
        return replace(assumed, origin=f"{assumed.origin}; no figures of the profile's {named}")
    return _assumed(known, measured, configured)


def _assumed(known: Mapping[str, Gpu], measured: Mapping[str, Gpu], configured: str | None) -> Gpu:
    """Return the GPU of a stage whose profile names none: the configured one, the only measured one, or the default."""
    if configured:
        if configured not in known:
            raise ConfigError(f"engine.gpu: {configured!r} is not known; known are {', '.join(sorted(known))}, see docs/gpu.md")
        return replace(known[configured], origin=f"as engine.gpu says, {known[configured].origin}")
    if len(measured) == 1:
        return next(iter(measured.values()))
    return replace(known[DEFAULT], origin=f"assumed, set engine.gpu; {known[DEFAULT].origin}")


def key_of(name: str) -> str:
    """Return the key under which figures of a GPU are kept, by the name that its driver has for it."""
    return _matching(name, _published()) or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _matching(name: str, known: Mapping[str, Gpu]) -> str | None:
    """Return the known model that a name contains, None if there is none or the name is that of a part of a GPU."""
    if name in known:
        return name
    if SLICE.search(name.lower()):
        return None
    words = re.sub(r"[^a-z0-9]+", " ", name.lower())
    found = [key for key in known if re.search(rf"(?<!\d){' ?'.join(WORD.findall(key))}(?!\d)", words)]
    return max(found, key=len, default=None)


@functools.cache
def _published() -> dict[str, Gpu]:
    content = json.loads(Path(__file__).with_name("gpus.json").read_text(encoding="utf-8"))
    return {key: _from_peaks(entry, content) for key, entry in content["gpus"].items()}


def _from_peaks(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Gpu:
    efficiency = content["efficiency"]
    return Gpu(
        label=entry["label"],
        memory_mb=1000 * entry["memory_gb"],
        flops={name: 1e12 * peak * efficiency[entry["units"]] for name, peak in entry["peak_tflops"].items()},
        bandwidth=1e9 * entry["peak_bandwidth_gb_s"] * efficiency["bandwidth"],
        link=1e9 * entry["link_gb_s"],
        launch_s=1e-6 * content["launch_us"],
    )


def measured_path() -> Path:
    """Return where the file of measured figures is, or would be."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "spikedistill" / "gpus.json"


def measured_gpus() -> dict[str, Gpu]:
    """Read the figures that were measured on this site; none if there is no such file.

    Raises:
        ConfigError: if the file that the variable names is missing, or a file is not valid or writable by every user.
    """
    path = measured_path()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except FileNotFoundError:
        if os.environ.get(VARIABLE):
            raise ConfigError(f"{VARIABLE}: no such file: {path}; `make gpu` writes one, see docs/gpu.md") from None
        return {}
    except OSError as err:
        raise ConfigError(f"figures of GPUs: {path} cannot be read: {err.strerror}") from err
    if mode & stat.S_IWOTH:
        raise ConfigError(
            f"figures of GPUs: every user of this machine can write to {path}, which decides what jobs request: chmod o-w it"
        )
    try:
        content = MeasuredGpus.model_validate_json(text)
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"figures of GPUs: {path}: {place}: {first['msg']}; `make gpu` writes such files, see docs/gpu.md"
        ) from err
    return {key: gpu.as_gpu(key) for key, gpu in content.gpus.items()}
