"""Parameters of a dataset that only its folder tells, found there by its component. Imports no torch.

A component of `data/datasets` may define `scan(params, raw) -> Params`, for data whose classes and shape are not known
beforehand: it returns the parameters with everything that was not stated, and a digest of the files that are used, so that they
are in the id.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from spikedistill.components import ComponentParams
from spikedistill.data.formats.files import reason
from spikedistill.errors import DataError


def filled_params(component: ModuleType, params: Mapping[str, Any], root: str | None) -> ComponentParams:
    """Return the checked parameters of a dataset, with what its component finds in the folder.

    Args:
        component: the dataset.
        params: as configured.
        root: folder of the files, None if there is none. It is looked into once per process.

    Raises:
        DataError: if what the folder should say is not there.
    """
    checked: ComponentParams = component.Params.model_validate(dict(params))
    return checked if root is None or not hasattr(component, "scan") else _scanned(component, checked.model_dump_json(), root)


@functools.lru_cache(maxsize=256)
def _scanned(component: ModuleType, params: str, root: str) -> ComponentParams:
    try:
        return component.scan(component.Params.model_validate_json(params), Path(root).expanduser())
    except OSError as err:
        raise DataError(f"{err.filename or root}: {reason(err)}") from err


def summary(component: ModuleType, params: Mapping[str, Any]) -> str:
    """Return what was stated or found of a dataset in one line; empty for one that is known beforehand."""
    return component.summary(component.Params.model_validate(dict(params))) if hasattr(component, "summary") else ""
