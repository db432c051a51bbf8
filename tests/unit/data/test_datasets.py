"""Every dataset says what it is without touching its files."""

import pytest

from spikedistill import components


@pytest.mark.parametrize("name", components.names("data.datasets"))
def test_every_dataset_describes_itself(name):
    component = components.load("data.datasets", name)
    meta = component.describe(component.Params())
    assert meta.num_classes > 1
    assert (meta.kind == "frames") == (meta.num_frames is not None)
    assert component.__doc__
    assert isinstance(component.NEEDS_RAW, bool)
