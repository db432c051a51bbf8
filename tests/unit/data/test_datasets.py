"""What every dataset promises; a new file is tested the moment it exists. The checks are those of `check-plugin`."""

import pytest

from spikedistill import components
from spikedistill.contract import datasets


@pytest.mark.parametrize("check", datasets.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", components.names("data.datasets"))
def test_dataset(name, check):
    check(components.load("data.datasets", name))
