"""Data: decoding, event integration, prepared datasets, loading, augmentation. Submodules are imported on first use.

Imports go downwards only: datasets > loading, prepare > store > formats > meta.
"""

from typing import TYPE_CHECKING

from spikedistill.lazy import exports

if TYPE_CHECKING:
    from spikedistill.data.formats.events import Events, read_aedat2, read_aedat3, read_atis
    from spikedistill.data.prepare.integrate import integrate

__all__ = ["Events", "integrate", "read_aedat2", "read_aedat3", "read_atis"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Events": "formats.events",
        "integrate": "prepare.integrate",
        "read_aedat2": "formats.events",
        "read_aedat3": "formats.events",
        "read_atis": "formats.events",
    },
)
