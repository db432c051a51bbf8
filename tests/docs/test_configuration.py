"""The reference of the configuration is made from the models: see test_generated.py for whether it is up to date."""

from spikedistill.config.reference import configuration_reference


def test_the_reference_has_types_bounds_defaults_and_meanings():
    text = configuration_reference()
    assert "| `epochs`* | whole number, ≥ 1" in text
    assert '| `reset`* | `hard` or `soft` | `"hard"` |' in text
    assert "### `sealkd`" in text
    assert "| `alpha`* | number, ≥ 0 | `0.6` |" in text
    assert "## `experiments.LABEL.student.train.augment`" in text
