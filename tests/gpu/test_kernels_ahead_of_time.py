"""The kernels as Triton compiles them for GPUs that are not here: no spilled registers, accesses of full width.

The functions that launch kernels are called with tensors of torch's meta device, and what they would launch is compiled by
Triton's own ptxas for each architecture.
"""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels import lif, normalised_lif, rate
from spikedistill.neurons.kernels.normalised_lif import Norm

triton = pytest.importorskip("triton", reason="this torch came without Triton")

ARCHITECTURES = {80: "A100", 90: "H100", 100: "B200"}
TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
NETWORKS = {
    "bf16, hard, sigmoid": (torch.bfloat16, Dynamics(0.5, 1.0, 0.0, False, 4.0, "sigmoid")),
    "float32, soft, triangle": (torch.float32, Dynamics(0.2, 1.0, None, False, 1.0, "triangle")),
}
REGISTERS = {
    "lif._forward": 48,
    "lif._backward": 48,
    "rate._statistics": 80,
    "normalised_lif._integrate": 64,
    "normalised_lif._sum": 168,
    "normalised_lif._differentiate": 136,
    "normalised_lif._finish": 64,
}
"""Most registers of a thread at T = 4, in any of the variants."""
SIZE = (4, 32, 8, 8, 64)
"""T and [B, H, W, C], where it is not said otherwise."""


@dataclass(frozen=True)
class Launch:
    """A kernel that would have been launched, and what with."""

    kernel: str
    function: object
    arguments: dict
    options: dict

    def compile(self, architecture):
        """Return the PTX, and registers and bytes of local memory of a thread."""
        signature, constants, attributes = {}, {}, {}
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


def describe(value):
    """Return how Triton writes the type of an argument; it compiles None and 1 in."""
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}"
    return "constexpr" if value is None or value == 1 else {int: "i32", float: "fp32"}[type(value)]


def resources(cubin):
    """Return registers and bytes of local memory that each thread of a compiled kernel needs."""
    tool = next(Path(triton.__file__).parent.rglob("nvidia/bin/cuobjdump"))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        shown = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", shown).groups()
    return int(registers), int(stack) + int(local)


@pytest.fixture
def launches(monkeypatch):
    """What is launched while the test runs: the kernels are replaced by records of their arguments."""
    found = []

    class Recorded:
        def __init__(self, name, function):
            self.name, self.function = name, function

        def __getitem__(self, grid):
            return self.record

        def record(self, *positional, **named):
            names = self.function.arg_names
            given = dict(zip(names, positional, strict=False)) | named
            options = {name: value for name, value in given.items() if name not in names}
            found.append(Launch(self.name, self.function, {name: given[name] for name in names}, options))

    for kernel in REGISTERS:
        module, name = kernel.split(".")
        module = {"lif": lif, "rate": rate, "normalised_lif": normalised_lif}[module]
        monkeypatch.setattr(module, name, Recorded(kernel, getattr(module, name)))
    return found


def call_everything(dtype, dynamics, size=SIZE):
    """Call every function that launches kernels, for networks in a precision."""
    steps, *pixels, channels = size
    y = torch.empty(steps, torch.Size(pixels).numel(), channels, dtype=dtype, device="meta")
    norm = Norm(*(torch.empty(channels, device="meta") for _ in range(4)), 1e-5)
    lif.integrate(y.flatten(1), dynamics)
    lif.differentiate(y.flatten(1), torch.empty_like(y.flatten(1), dtype=torch.float32), dynamics)
    rate.spike_statistics(y.flatten(1), dynamics)
    for shortcut in (None, y):
        normalised_lif.integrate(y, shortcut, norm, dynamics)
        sums, grad_x = normalised_lif.sum_gradients(y, y, shortcut, norm, dynamics)
        normalised_lif.differentiate(y, y, grad_x, sums, norm, dynamics)


def access_bytes(ptx):
    """Return how many bytes each access to global memory reads or writes, and how often: {16: 12, 4: 2}."""
    found = Counter()
    for count, bits in re.findall(r"(?:ld|st)\.global[.\w:]*?(?:\.v(\d))?\.b(\d+)", ptx):
        found[int(count or 1) * int(bits) // 8] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=ARCHITECTURES.get)
@pytest.mark.parametrize("network", NETWORKS)
def test_registers_hold_everything_and_accesses_have_full_width(launches, architecture, network):
    call_everything(*NETWORKS[network])
    assert {each.kernel for each in launches} == set(REGISTERS)
    for each in launches:
        ptx, registers, spilled = each.compile(architecture)
        assert spilled == 0, f"{each.kernel}: {spilled} bytes of local memory"
        assert registers <= REGISTERS[each.kernel], f"{each.kernel}: {registers} registers"
        sums = {4: 2} if each.kernel == "normalised_lif._sum" else {}
        widths = access_bytes(ptx)
        assert widths == {16: widths[16]} | sums, f"{each.kernel}: {widths}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "dtype"), [(1, torch.float32), (8, torch.float16), (10, torch.bfloat16), (16, torch.float32), (20, torch.float16)]
)
def test_registers_suffice_for_any_number_of_steps(launches, steps, dtype):
    call_everything(dtype, NETWORKS["bf16, hard, sigmoid"][1], (steps, *SIZE[1:]))
    for each in launches:
        _, registers, spilled = each.compile(90)
        assert spilled == 0, f"{each.kernel}: {spilled} bytes of local memory, {registers} registers"


def test_kernels_compile_for_a_single_neuron(launches):
    call_everything(*NETWORKS["bf16, hard, sigmoid"], (2, 1, 1, 1, 1))
    for each in launches:
        each.compile(90)


def test_fused_multiply_adds_are_asked_for_at_every_launch(launches):
    call_everything(*NETWORKS["bf16, hard, sigmoid"])
    assert all(each.options == {"enable_fp_fusion": True} for each in launches)
