"""Twenty steps of training with every method give the losses on record, to 1e-9: see tests/golden_training.py."""

import pytest

from tests.golden_training import cases, golden, losses

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", cases())
def test_the_losses_of_twenty_steps(case):
    assert case in golden(), "a new method: run python -m tests.golden_training, and commit tests/golden/training.json"
    assert losses(case) == pytest.approx(golden()[case], rel=1e-9, abs=0)
