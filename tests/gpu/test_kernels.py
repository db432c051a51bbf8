"""Kernels on a GPU: what layers launch and move; on a real one, that they agree with plain operations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig

UNIT_TESTS = Path(__file__).parents[1] / "unit" / "neurons"
CASES = sorted((UNIT_TESTS / "kernels").glob("*_cases.py"))


@pytest.mark.only_real
@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem)
def test_kernels_agree_with_plain_operations(gpu, cases):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.only_fake
@pytest.mark.parametrize("steps", [2, 8])
def test_statistics_of_rate_based_backpropagation_take_one_launch_for_any_number_of_steps(gpu, steps):
    layer = LIF(NeuronConfig(), steps)
    x = torch.zeros(steps, 4, 8, 6, 6, device=gpu.device)
    layer.rate_statistics(x)
    with gpu.counted() as counted:
        layer.rate_statistics(x)
    assert counted.launches == 1


@pytest.mark.only_fake
@pytest.mark.slow
def test_a_compiled_block_keeps_the_kernels(gpu):
    from tests.gpu.traffic import of_compiled_block

    forward, backward = of_compiled_block()
    assert forward < 39 and backward < 55  # 62.5 and 76.3 with plain operations over time


@pytest.mark.only_fake
def test_a_fused_block_keeps_half_and_moves_far_fewer_bytes(gpu):
    from tests.gpu.traffic import of_block

    plain, fused = of_block(fused=False), of_block(fused=True)
    assert (plain["held"], fused["held"]) == (16, 8)  # two layers of bf16: outputs of convolutions, spikes, float32 potentials
    assert (plain["forward"], fused["forward"]) == (34, 14)
    assert plain["backward"] > 42 and fused["backward"] < 31
