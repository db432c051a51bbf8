"""Random numbers of losses: functions of seed, epoch, step and name, whoever draws them and however often."""

import pytest
import torch

from spikedistill.train.objective import Batch
from spikedistill.train.step.draws import Draws

LIKE = torch.empty(4, 3)


def batch(epoch=0, step=0, first=0, size=4, global_size=4):
    return Batch(torch.zeros(size, 1, 2, 2), torch.zeros(size, dtype=torch.long), epoch, step, first, global_size)


def drawn(moment, seed=5, name="noise", distribution="normal"):
    return Draws(seed).get(name, distribution, LIKE, moment).clone()


def test_parts_of_a_batch_get_the_rows_of_the_whole():
    whole, draws = drawn(batch(global_size=8, size=8)), Draws(5)
    parts = [draws.get("noise", "normal", LIKE, batch(first=first, size=2, global_size=8)).clone() for first in (0, 2, 4, 6)]
    assert torch.equal(torch.cat(parts), whole)


def test_seed_epoch_step_and_name_change_the_numbers():
    others = [drawn(batch(epoch=1)), drawn(batch(step=1)), drawn(batch(), seed=6), drawn(batch(), name="other")]
    assert not any(torch.equal(other, drawn(batch())) for other in others)
    assert torch.equal(drawn(batch()), drawn(batch()))


def test_the_next_step_overwrites_the_numbers_where_they_lie():
    draws = Draws(5)
    first = draws.get("noise", "normal", LIKE, batch(step=1))
    draws.renew(batch(step=2))
    assert torch.equal(first, drawn(batch(step=2)))
    assert draws.get("noise", "normal", LIKE, batch(step=2)).data_ptr() == first.data_ptr()


def test_numbers_of_another_dtype_or_width_are_drawn_anew():
    draws = Draws(5)
    assert draws.get("noise", "normal", LIKE, batch()).dtype == torch.float32
    wide = draws.get("noise", "normal", torch.empty(4, 5, dtype=torch.float64), batch())
    assert wide.shape == (4, 5)
    assert wide.dtype == torch.float64


def test_uniform_numbers_are_in_the_unit_interval_and_differ_from_normal_ones():
    numbers = drawn(batch(size=4000, global_size=4000), distribution="uniform")
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.05)


def test_normal_numbers_have_a_mean_of_0_and_a_deviation_of_1():
    numbers = drawn(batch(size=4000, global_size=4000))
    assert float(numbers.mean()) == pytest.approx(0, abs=0.05)
    assert float(numbers.std()) == pytest.approx(1, abs=0.05)


def test_the_same_step_of_the_next_epoch_draws_anew():
    draws = Draws(5)
    draws.get("noise", "normal", LIKE, batch(epoch=0))
    assert torch.equal(draws.get("noise", "normal", LIKE, batch(epoch=1)), drawn(batch(epoch=1)))
