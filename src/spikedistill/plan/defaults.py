"""The defaults that ids rely on, frozen in `defaults.json`. Imports no torch.

A key at its default is not hashed, so that a new key changes no id. Then a default must never change: the same id would mean
other work. A new meaning needs a new key, or another `schema_version` of the stages that use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spikedistill import components
from spikedistill.config.sweep import model_of
from spikedistill.plan.stages import STAGES

FILE = Path(__file__).with_name("defaults.json")
KINDS: tuple[components.Kind, ...] = ("data.datasets", "distill", "neurons.kinds", "train.optimizers", "train.schedules")


def current_defaults() -> dict[str, Any]:
    """Return the default of every key that an id can hold, as plain JSON: `MODEL.key` or `KIND/component.key` -> value."""
    found: dict[str, Any] = {}
    for stage in STAGES.values():
        found |= _defaults(stage.spec, stage.spec.__name__)
    for kind in KINDS:
        for name in components.names(kind):
            found |= _defaults(components.load(kind, name).Params, f"{kind}/{name}")
    return dict(sorted(found.items()))


def frozen_defaults() -> dict[str, Any]:
    """Return the defaults as they were frozen."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def changed_defaults(now: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the current defaults: some differ from the frozen ones, or those of new keys are not frozen."""
    frozen = frozen_defaults()
    advice = "ids would silently mean other work: give the new meaning a new key, or raise the schema_version of its stages"
    changed = [
        f"the default of {key} was {frozen[key]!r} and is {now[key]!r}; {advice}"
        for key in sorted(frozen.keys() & now.keys())
        if frozen[key] != now[key]
    ]
    return changed + [f"the default of {key} is not frozen yet: run make generate" for key in sorted(now.keys() - frozen.keys())]


def defaults_text() -> str:
    """Return the content of the file with the defaults of new keys added; those that are in it stay as they are."""
    return json.dumps(dict(sorted((current_defaults() | frozen_defaults()).items())), indent=1) + "\n"


def _defaults(model: type[BaseModel], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        section = model_of(field.annotation)
        if section is not None:
            found |= _defaults(section, section.__name__)
        if key in ("stage", "code", "schema_version") or field.is_required():
            continue
        found[f"{prefix}.{key}"] = _plain(field.get_default(call_default_factory=True))
    return found


def _plain(value: Any) -> Any:
    """Return a default as JSON; of a section what differs from its own defaults, which are frozen by themselves."""
    return value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else json.loads(json.dumps(value))
