"""Kernels compiled ahead of time, for GPUs that are not here.

The functions that launch kernels are called with tensors of torch's meta device; what they would launch is recorded, and
compiled by Triton's own ptxas.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels import lif, normalised_lif, normalised_lif_backward, rate
from spikedistill.neurons.kernels.tiles import Norm

MODULES = {module.__name__.rpartition(".")[2]: module for module in (lif, rate, normalised_lif, normalised_lif_backward)}
KERNELS = (
    "lif._forward",
    "lif._backward",
    "rate._statistics",
    "normalised_lif._integrate",
    "normalised_lif_backward._sum",
    "normalised_lif_backward._differentiate",
    "normalised_lif_backward._finish",
)
TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
SIZE = (4, 32, 8, 8, 64)
"""T and [B, H, W, C], where it is not said otherwise."""


@dataclass(frozen=True)
class Launch:
    """A kernel that would have been launched, and what with."""

    kernel: str
    function: Any
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]

    def compile(self, architecture: int) -> tuple[str, int, int]:
        """Return the PTX, and registers and bytes of local memory of a thread."""
        signature: dict[str, str] = {}
        constants, attributes = {}, {}
        for place, (name, value) in enumerate(self.arguments.items()):
            signature[name] = "constexpr" if self.function.params[place].is_constexpr else describe(value)
            if signature[name] == "constexpr":
                constants[place,] = value
            elif isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[place,] = [["tt.divisibility", 16]]
        source = triton.compiler.ASTSource(self.function, signature, constants, attributes)
        target = triton.backends.compiler.GPUTarget("cuda", architecture, 32)
        compiled = triton.compile(source, target=target, options=self.options)
        return compiled.asm["ptx"], *resources(compiled.asm["cubin"])


def describe(value: Any) -> str:
    """Return how Triton writes the type of an argument; it compiles None and 1 in."""
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}"
    return "constexpr" if value is None or value == 1 else {int: "i32", float: "fp32"}[type(value)]


def resources(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of local memory that each thread of a compiled kernel needs."""
    tool = next(Path(triton.__file__).parent.rglob("nvidia/bin/cuobjdump"))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        shown = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", shown).groups()
    return int(registers), int(stack) + int(local)


class _Recorder:
    """Stands in for a kernel."""

    def __init__(self, kernel: str, function: Any, launches: list[Launch]) -> None:
        self._kernel, self._function, self._launches = kernel, function, launches

    def __getitem__(self, grid: Any) -> Any:
        return self._record

    def _record(self, *positional: Any, **named: Any) -> None:
        names = self._function.arg_names
        given = dict(zip(names, positional, strict=False)) | named
        options = {name: value for name, value in given.items() if name not in names}
        self._launches.append(Launch(self._kernel, self._function, {name: given[name] for name in names}, options))


@contextlib.contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Within the block, record what kernels are launched with, instead of launching them."""
    launches: list[Launch] = []
    with contextlib.ExitStack() as stack:
        for kernel in KERNELS:
            module, name = MODULES[kernel.split(".")[0]], kernel.split(".")[1]
            recorder = _Recorder(kernel, getattr(module, name), launches)
            stack.enter_context(mock.patch.object(module, name, recorder))
        yield launches


def launches_of_everything(dtype: torch.dtype, dynamics: Dynamics, size: tuple[int, ...] = SIZE) -> list[Launch]:
    """Return all launches of the functions that have kernels, for networks in a precision; size is T, B, H, W, C."""
    steps, *pixels, channels = size
    y = torch.empty(steps, torch.Size(pixels).numel(), channels, dtype=dtype, device="meta")
    norm = Norm(*(torch.empty(channels, device="meta") for _ in range(4)), 1e-5)
    with recorded() as launches:
        lif.integrate(y.flatten(1), dynamics)
        lif.differentiate(y.flatten(1), torch.empty_like(y.flatten(1), dtype=torch.float32), dynamics)
        rate.spike_statistics(y.flatten(1), dynamics)
        for shortcut in (None, y):
            normalised_lif.integrate(y, shortcut, norm, dynamics)
            sums, grad_x = normalised_lif_backward.sum_gradients(y, y, shortcut, norm, dynamics)
            normalised_lif_backward.differentiate(y, y, grad_x, sums, norm, dynamics)
    return launches


def access_bytes(ptx: str) -> Counter[int]:
    """Return how many bytes each access to global memory reads or writes, and how often: {16: 12, 4: 2}."""
    found: Counter[int] = Counter()
    for count, bits in re.findall(r"(?:ld|st)\.global[.\w:]*?(?:\.v(\d))?\.b(\d+)", ptx):
        found[int(count or 1) * int(bits) // 8] += 1
    return found
