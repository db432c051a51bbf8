"""How much a preparation of data will write, before it runs. Imports no torch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from spikedistill import components
from spikedistill.data.formats.files import MUCH_BYTES, in_units
from spikedistill.plan.costs.work import split_samples
from spikedistill.plan.stages import PreprocessSpec


def written_bytes(spec: PreprocessSpec) -> int:
    """Return about how many bytes a preparation writes; 0 if that is not known.

    A dataset that is not kept as one array, a byte for each value, says how many itself: `written_bytes(params)`.
    """
    component = components.load("data.datasets", spec.dataset)
    params = component.Params.model_validate(spec.params)
    if hasattr(component, "written_bytes"):
        return int(component.written_bytes(params))
    samples = split_samples(component, spec.params)
    meta = component.describe(params)
    return sum(samples or (0, 0)) * math.prod((meta.num_frames or 1, meta.channels, meta.height, meta.width))


def disk_lines(specs: Iterable[PreprocessSpec], store: Path) -> Iterator[str]:
    """Yield a line for each preparation that writes more than a gigabyte, and one if all together do not fit."""
    needs = {spec.ref: need for spec in specs if (need := written_bytes(spec)) >= MUCH_BYTES}
    if not needs:
        return
    try:
        free = shutil.disk_usage(next(each for each in (store.absolute(), *store.absolute().parents) if each.exists())).free
    except OSError:  # an unusable store is reported by the code that needs it
        return
    for ref, need in needs.items():
        yield f"disk: {Path(ref).name} writes about {in_units(need)} to {store}, {in_units(free)} free"
    if sum(needs.values()) > free:
        yield f"disk: that is {in_units(sum(needs.values()) - free)} more than is free: make room, or set store: to a larger disk"
