"""The JSON schema of config.yaml, for editors. Imports no torch."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spikedistill import components
from spikedistill.config.models import SWEPT_OF_DATASET, Config, StudentConfig, TeacherConfig
from spikedistill.config.sweep import model_of, takes_plain_values
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.plugins import room_of
from spikedistill.train.settings import OptimizerConfig, ScheduleConfig

SCHEMA_FILE = Path(__file__).with_name("config.schema.json")


def schema_text() -> str:
    """Return the content of `SCHEMA_FILE`."""
    return json.dumps(config_schema(), indent=2) + "\n"


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of config.yaml, with the parameters of every component."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "spikedistill config.yaml"
    definitions = schema["$defs"]
    _narrow_params(definitions, "DatasetConfig", "name", "data.datasets")
    _narrow_params(definitions, "MethodConfig", "method", "distill")
    for choice in (NeuronConfig, OptimizerConfig, ScheduleConfig):
        _narrow_params(definitions, choice.__name__, "name", choice.KIND)
    changes = {key: value for key, value in definitions["TrainConfig"].items() if key != "required"}
    definitions["TrainChanges"] = copy.deepcopy(changes)
    about = definitions["MethodConfig"]["properties"]["train"]["description"]
    definitions["MethodConfig"]["properties"]["train"] = {"$ref": "#/$defs/TrainChanges", "description": about, "default": {}}
    for key in SWEPT_OF_DATASET:
        _allow_list(definitions["DatasetConfig"]["properties"], key)
    for section, model in (("TeacherConfig", TeacherConfig), ("StudentConfig", StudentConfig)):
        names: dict[str, Any] = {"enum": sorted(components.architectures())}
        arch = definitions[section]["properties"]["arch"]
        arch |= {"anyOf": [names, {"pattern": "^[a-z]+/."}]}
        _allow_sweeps(definitions, model, section)
    return schema


def _allow_sweeps(definitions: dict[str, Any], model: type[BaseModel], name: str) -> None:
    """Accept a list of values wherever a key takes a single one."""
    properties = definitions[name]["properties"]
    for key, field in model.model_fields.items():
        section = model_of(field.annotation)
        if section:
            _allow_sweeps(definitions, section, section.__name__)
        elif takes_plain_values(field.annotation) and properties[key].get("anyOf", [{}])[-1].get("type") != "array":
            _allow_list(properties, key)


def _allow_list(properties: dict[str, Any], key: str) -> None:
    about = {k: v for k, v in properties[key].items() if k in ("default", "description", "title")}
    one = {k: v for k, v in properties[key].items() if k not in about}
    properties[key] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}], **about}


def _narrow_params(definitions: dict[str, Any], section: str, key: str, kind: components.Kind) -> None:
    conditions = []
    for name in components.names(kind):
        model = components.load(kind, name).Params
        params = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(params.pop("$defs", {}))
        definition = f"{room_of(kind)}.{name}"
        definitions[definition] = params
        if "properties" in params:
            _allow_sweeps(definitions, model, definition)
        when = {"properties": {key: {"const": name}}, "required": [key]}
        conditions.append({"if": when, "then": {"properties": {"params": {"$ref": f"#/$defs/{definition}"}}}})
    definitions[section]["allOf"] = conditions
    names = list(components.names(kind))
    target = definitions[section]["properties"][key]
    patterns = [{"pattern": f"^{zoo}/."} for zoo in components.zoos(kind)]
    if patterns:
        target["anyOf"] = [{"enum": names}, *patterns]
        return
    target.update({"enum": names} if "anyOf" not in target else {"anyOf": [{"enum": names}, {"type": "null"}]})
