"""Every optimizer and every schedule keeps what its kind promises."""

import pytest

from spikedistill import components
from spikedistill.contract import optimizers, schedules


@pytest.mark.parametrize("check", optimizers.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", components.names("train.optimizers"))
def test_optimizer(name, check):
    check(components.load("train.optimizers", name))


@pytest.mark.parametrize("check", schedules.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", components.names("train.schedules"))
def test_schedule(name, check):
    check(components.load("train.schedules", name))
