"""The kernels as Triton compiles them for GPUs that are not here: no spilled registers, accesses of full width."""

import pytest
import torch

from spikedistill.neurons.dynamics import Dynamics

pytest.importorskip("triton", reason="this torch came without Triton")
from tests.gpu.ahead_of_time import KERNELS, SIZE, access_bytes, launches_of_everything

ARCHITECTURES = {80: "A100", 90: "H100", 100: "B200"}
NETWORKS = {
    "bf16, hard, sigmoid": (torch.bfloat16, Dynamics(0.5, 1.0, 0.0, False, 4.0, "sigmoid")),
    "float32, soft, triangle": (torch.float32, Dynamics(0.2, 1.0, None, False, 1.0, "triangle")),
}
REGISTERS = {
    "lif._forward": 48,
    "lif._backward": 48,
    "rate._statistics": 80,
    "normalised_lif._integrate": 64,
    "normalised_lif_backward._sum": 168,
    "normalised_lif_backward._differentiate": 136,
    "normalised_lif_backward._finish": 64,
}
"""Most registers of a thread at T = 4, in any of the variants."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=ARCHITECTURES.get)
@pytest.mark.parametrize("network", NETWORKS)
def test_registers_hold_everything_and_accesses_have_full_width(architecture, network):
    launches = launches_of_everything(*NETWORKS[network])
    assert {each.kernel for each in launches} == set(REGISTERS) == set(KERNELS)
    for each in launches:
        ptx, registers, spilled = each.compile(architecture)
        assert spilled == 0, f"{each.kernel}: {spilled} bytes of local memory"
        assert registers <= REGISTERS[each.kernel], f"{each.kernel}: {registers} registers"
        sums = {4: 2} if each.kernel == "normalised_lif_backward._sum" else {}
        widths = access_bytes(ptx)
        assert widths == {16: widths[16]} | sums, f"{each.kernel}: {widths}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "dtype"), [(1, torch.float32), (8, torch.float16), (10, torch.bfloat16), (16, torch.float32), (20, torch.float16)]
)
def test_registers_suffice_for_any_number_of_steps(steps, dtype):
    launches = launches_of_everything(dtype, NETWORKS["bf16, hard, sigmoid"][1], (steps, *SIZE[1:]))
    for each in launches:
        _, registers, spilled = each.compile(90)
        assert spilled == 0, f"{each.kernel}: {spilled} bytes of local memory, {registers} registers"


def test_kernels_compile_for_a_single_neuron():
    launches = launches_of_everything(*NETWORKS["bf16, hard, sigmoid"], (2, 1, 1, 1, 1))
    for each in launches:
        each.compile(90)


def test_fused_multiply_adds_are_asked_for_at_every_launch():
    launches = launches_of_everything(*NETWORKS["bf16, hard, sigmoid"])
    assert all(each.options == {"enable_fp_fusion": True} for each in launches)
