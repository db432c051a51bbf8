"""Write docs/configuration.md: every key of config.yaml, from the models that check it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from spikedistill import components
from spikedistill.config.models import SWEPT_OF_DATASET, Config, DatasetConfig
from spikedistill.config.sweep import model_of, takes_plain_values

REFERENCE_FILE = Path(__file__).parents[3] / "docs" / "configuration.md"
HEAD = """# Configuration

Every key of `config.yaml`, written by `make generate` from the models that check it. A key marked * takes a list
where one value belongs: that is a sweep, one run for each. `together` walks such lists in step. An example to start from:
[config.yaml](../config.yaml).
"""
SWEPT = ("experiments.LABEL.teacher", "experiments.LABEL.student")


def configuration_reference() -> str:
    """Return the page in Markdown."""
    parts = [HEAD]
    for title, model in _sections(Config, "config.yaml"):
        parts.append(_section(f"## `{title}`", model, swept=title.startswith(SWEPT)))
    for heading, kind, place in (
        ("Parameters of methods", "distill", "methods.LABEL.params"),
        ("Parameters of datasets", "data.datasets", "dataset.params"),
        ("Parameters of neurons", "neurons.kinds", "student.neuron.params"),
        ("Parameters of optimizers", "train.optimizers", "teacher.train.optimizer.params` and `student.train.optimizer.params"),
        ("Parameters of schedules", "train.schedules", "teacher.train.schedule.params` and `student.train.schedule.params"),
    ):
        parts.append(f"## {heading}\n\nUnder `experiments.LABEL.{place}`.\n")
        for name in components.names(kind):  # type: ignore[arg-type]
            model = components.load(kind, name).Params  # type: ignore[arg-type]
            parts.append(_section(f"### `{name}`", model, swept=True))
            parts += [_section(f"#### `{name}`: `{path}`", inner, swept=True) for path, inner in _inner(model, "")]
    names = ", ".join(f"`{name}`" for name in components.architectures())
    parts.append(f"## Architectures\n\nFor `teacher.arch` and `student.arch`: {names}.\n")
    return "\n".join(parts)


def _sections(model: type[BaseModel], title: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield title, model
    yield from _inner(model, "")


def _inner(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the sections inside a section, by dotted key."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        section = model_of(field.annotation)
        if section is None and get_origin(field.annotation) is dict:
            section, path = model_of(get_args(field.annotation)[1]), f"{path}.LABEL"
        if section is not None:
            yield path, section
            yield from _inner(section, f"{path}.")


def _section(heading: str, model: type[BaseModel], *, swept: bool) -> str:
    about = " ".join((model.__doc__ or "").split())
    if not model.model_fields:
        return f"{heading}\n\n{about}\n"
    swept_keys = SWEPT_OF_DATASET if model is DatasetConfig else frozenset(model.model_fields if swept else ())
    rows = [_row(name, field, swept=name in swept_keys) for name, field in model.model_fields.items()]
    return "\n".join([f"{heading}\n\n{about}\n", "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _row(name: str, field: Any, *, swept: bool) -> str:
    star = "*" if swept and takes_plain_values(field.annotation) and field.annotation is not None else ""
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{name}`{star} | {_type(field)} | {_default(field)} | {meaning} |"


def _type(field: Any) -> str:
    bounds = [
        f"{sign} {_number(getattr(entry, key))}"
        for entry in field.metadata
        for key, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(entry, key, None) is not None
    ]
    return ", ".join([_name(field.annotation), *bounds])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _name(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in get_args(annotation))
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _name(arguments[0])
    if get_origin(annotation) in (list, tuple):
        return f"list of {_plural(arguments[0])}"
    if get_origin(annotation) is dict:
        return "mapping"
    if arguments:
        return " or ".join(dict.fromkeys(_name(each) for each in arguments))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"str": "text", "bool": "true or false", "int": "whole number", "float": "number"}.get(
        getattr(annotation, "__name__", ""), "value"
    )


def _plural(annotation: Any) -> str:
    """Return the type of the entries of a list."""
    members = get_args(annotation)
    if members and get_origin(annotation) not in (list, tuple, dict, Annotated, Literal):
        return " or ".join(dict.fromkeys(_plural(each) for each in members))
    names = {"text": "texts", "whole number": "whole numbers", "number": "numbers", "mapping": "mappings", "section": "sections"}
    name = _name(annotation)
    return names.get(name, name.replace("list of", "lists of"))


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if isinstance(value, BaseModel):
        return "as below"
    return f"`{json.dumps(value, default=list)}`"
