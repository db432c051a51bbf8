"""What every dataset promises; a new file is tested the moment it exists. The checks are those of `check-plugin`."""

import pytest

from spikedistill import components
from spikedistill.contract import datasets


@pytest.mark.parametrize("name", components.names("data.datasets"))
def test_a_dataset_describes_itself(name):
    datasets.describes_itself(components.load("data.datasets", name))


@pytest.mark.slow
@pytest.mark.parametrize("name", components.names("data.datasets"))
def test_a_dataset_prepares_what_it_describes(name):
    datasets.prepares_what_it_describes(components.load("data.datasets", name))


def test_no_check_is_left_out():
    assert set(datasets.CHECKS) == {datasets.describes_itself, datasets.prepares_what_it_describes}
