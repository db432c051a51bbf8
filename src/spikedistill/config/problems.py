"""Collect the problems of a configuration, so that one error lists all of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from spikedistill import components
from spikedistill.config.sweep import model_of
from spikedistill.errors import ConfigError


class Problems:
    """A collector of problems, as `file: key: message` lines."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: dict[tuple[str, str], None] = {}

    def add(self, key: Sequence[str | int], message: str) -> None:
        """Add a problem; the variants of a sweep share one line, under the key as it was written."""
        self._lines[".".join(str(part).partition("[")[0] for part in key) or "(top level)", message] = None

    def add_validation(self, error: ValidationError, model: type[BaseModel], prefix: Sequence[str | int] = ()) -> None:
        """Add every problem that pydantic found in the section at `prefix`."""
        for detail in error.errors(include_url=False):
            self.add([*prefix, *detail["loc"]], _explain(detail, model))

    def raise_if_any(self) -> None:
        """Raise a `ConfigError` that lists the problems, if there are any."""
        if self._lines:
            count = f"{len(self._lines)} problem{'s' if len(self._lines) > 1 else ''}"
            lines = "\n".join(f"  {self._source}: {key}: {message}" for key, message in sorted(self._lines))
            raise ConfigError(f"{count} in the configuration:\n{lines}")


def _explain(detail: Any, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        key, section = str(detail["loc"][-1]), _section_at(model, detail["loc"][:-1])
        former = getattr(section, "FORMER_KEYS", {})
        if key in former:
            return f"{key!r} {former[key]}"
        return components.unknown("key", key, section.model_fields if section else ())
    text = detail["msg"].removeprefix("Value error, ")
    message = text[0].lower() + text[1:]
    if detail["type"] == "missing":
        return "is required and not given"
    if detail["type"] == "value_error" and isinstance(detail["input"], dict):
        return message  # of a check of this package, which names what it found in the section
    if detail["type"] in ("model_type", "dict_type", "mapping_type"):
        message = "a section of keys is expected, {} for an empty one"
    return f"{message}; found {'nothing' if detail['input'] is None else repr(detail['input'])}"


def _section_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of the section at a place of the configuration."""
    current: Any = model
    for part in loc:
        section = model_of(current)
        if section:
            field = section.model_fields.get(str(part))
            current = None if field is None else field.annotation
        else:  # a mapping of labels or a list: every member is of the same kind
            current = next(reversed(get_args(current)), None)
    return model_of(current)
