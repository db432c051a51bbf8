"""Losses are computed in full precision, also where a loss multiplies matrices, which autocast would round."""

import pytest
import torch

from spikedistill.distill.precision import full_precision


@full_precision
def gram(x, *, scale):
    return scale * (x @ x.T)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_autocast_and_half_precision_do_not_reach_a_loss(given, computed):
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(given)
    with torch.autocast("cpu", torch.bfloat16):
        product = gram(x, scale=torch.tensor(2.0, dtype=given))
    assert product.dtype == computed
    assert torch.equal(product, 2 * (x.to(computed) @ x.to(computed).T))
