"""The reference of the configuration is what the models say."""

from spikedistill.config.reference import REFERENCE_FILE, configuration_reference


def test_the_reference_is_fresh():
    assert REFERENCE_FILE.read_text(encoding="utf-8") == configuration_reference(), "run spikedistill schema --write"


def test_the_reference_has_types_bounds_defaults_and_meanings():
    text = configuration_reference()
    assert "| `epochs`* | whole number, ≥ 1 | required | Passes over the training split;" in text
    assert '| `reset`* | `hard` or `soft` | `"hard"` |' in text
    assert "### `sealkd`" in text
    assert "| `alpha`* | number, ≥ 0 | `0.6` |" in text
    assert "## `experiments.LABEL.student.train.augment`" in text
