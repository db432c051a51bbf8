"""Names of the models that another library registers, read from its source files without importing it. Imports no torch."""

from __future__ import annotations

import functools
import re

from spikedistill.lazy import package_folder

_REGISTERED = re.compile(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)\(", re.MULTILINE)


@functools.cache
def registered(package: str) -> dict[str, str]:
    """Return the models of a package, sorted: name -> stem of the file in `package/models/` that defines it.

    Args:
        package: "torchvision" or "timm"; both mark the functions that build models with `@register_model`.

    Returns:
        Empty if the package is not installed.
    """
    folder = package_folder(package)
    if folder is None:
        return {}
    files = sorted((folder / "models").glob("*.py"))
    found = {name: file.stem for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))}
    return dict(sorted(found.items()))
