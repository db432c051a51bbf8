"""Every method with every choice of its parameters."""

import pytest

from spikedistill import components
from spikedistill.contract.batches import choices

METHODS = components.names("distill")


def with_every_choice():
    """Each method with its defaults, and with every value of every parameter that is a choice among names."""
    for name in METHODS:
        for params in choices(components.load("distill", name)):
            yield pytest.param(name, params, id="-".join([name, *params.values()]))


every_choice = pytest.mark.parametrize(("name", "params"), list(with_every_choice()))
