"""Read YAML that somebody wrote in a hurry: every fault is an error that names the place, never a guess or a traceback.

Stricter than PyYAML's safe loader, which takes the last of two equal keys, ends in Python errors for odd scalars, and expands
nested aliases without limit. Values are plain afterwards: mappings with text keys, lists, text, numbers, booleans and null; no
two places share one object, so that changing one never changes another. Imports no torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from spikedistill.errors import ConfigError

MAX_DEPTH = 50
MAX_VALUES = 200_000
Number = TypeVar("Number", int, float)
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the checks of this module, but for those of numbers."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConstructorError(None, None, f"nested more than {MAX_DEPTH} levels deep", self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], Node] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag == _MERGE:
                continue
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                lines = f"line {first.start_mark.line + 1} and line {key.start_mark.line + 1}"
                raise ConstructorError(None, None, f"key {key.value!r} appears twice, in {lines}; keep one", key.start_mark)
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES // 10:
            raise ConstructorError(None, None, f"merges make {len(node.value)} keys of one mapping", node.start_mark)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, OverflowError, TypeError) as err:
            what = (
                f"{node.value!r:.60} cannot be read as {node.tag.rpartition(':')[2]}"
                if isinstance(node, ScalarNode)
                else str(err)
            )
            raise ConstructorError(None, None, f"{what}; write it in quotes if it is text", node.start_mark) from err


class _StrictLoader(_Loader):
    """One that refuses numbers which mean another than they look like, too."""

    def construct_yaml_int(self, node: ScalarNode) -> int:
        return self._as_it_looks(node, super().construct_yaml_int(node))

    def construct_yaml_float(self, node: ScalarNode) -> float:
        return self._as_it_looks(node, super().construct_yaml_float(node))

    def _as_it_looks(self, node: ScalarNode, number: Number) -> Number:
        """Refuse the octal and base-60 numbers of YAML 1.1, which look like others: 010 is 8, and 1:30 is 90."""
        digits = str(node.value).lstrip("+-").replace("_", "")
        if ":" in digits or (isinstance(number, int) and len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()):
            what = f"{node.value} means {number} in YAML; write that, or leading zeros and colons in quotes"
            raise ConstructorError(None, None, what, node.start_mark)
        return number


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_yaml_float)


def read_yaml(text: str, source: str, *, of_snakemake: bool = False) -> Any:
    """Parse one YAML document into plain values.

    Args:
        text: the document; JSON is YAML, too.
        source: what to call it in messages: the file or the option that it came from.
        of_snakemake: whether Snakemake reads it, too, so that numbers mean what YAML 1.1 says: 010 is 8, and 1:30 is 90.

    Raises:
        ConfigError: naming the source, the line where there is one, and what is wrong.
    """
    try:
        value = yaml.load(text, Loader=_Loader if of_snakemake else _StrictLoader)
    except yaml.MarkedYAMLError as err:
        place = f", line {err.problem_mark.line + 1}" if err.problem_mark else ""
        context = f" ({err.context})" if err.context else ""
        raise ConfigError(f"{source}{place}: {err.problem}{context}") from err
    except (yaml.YAMLError, RecursionError) as err:
        raise ConfigError(f"{source}: cannot be read as YAML: {err}") from err
    return _Copy(source).plain(value, ())


def read_yaml_file(file: Path, advice: str = "", *, of_snakemake: bool = False) -> Any:
    """Read a YAML file into plain values; None if it is empty.

    Args:
        file: the file, in UTF-8.
        advice: what to do if there is no such file.
        of_snakemake: as of `read_yaml`.

    Raises:
        ConfigError: as `read_yaml` does, and if the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise ConfigError(f"{file}: no such file" + (f"; {advice}" if advice else "")) from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{file}: not text in UTF-8, at byte {err.start}") from err
    except OSError as err:
        raise ConfigError(f"{file}: cannot be read: {err.strerror or err}") from err
    return read_yaml(text, str(file), of_snakemake=of_snakemake)


def read_mapping(file: Path, advice: str = "", *, of_snakemake: bool = False) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty one gives an empty mapping.

    Raises:
        ConfigError: as `read_yaml_file` does, and if it holds something else.
    """
    value = read_yaml_file(file, advice, of_snakemake=of_snakemake)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{file}: expected a mapping at the top level, found {type(value).__name__}")
    return value or {}


class _Copy:
    """Copies a value so that aliases share nothing, and counts what they expand to."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._count = 0

    def plain(self, value: Any, key: tuple[str, ...]) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError(f"{self._source}: more than {MAX_VALUES} values once its aliases are expanded")
        if len(key) > 2 * MAX_DEPTH:
            raise self._error(key[:3], "an alias contains itself")
        if isinstance(value, dict):
            return {self._text_key(name, key): self.plain(each, (*key, str(name))) for name, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each, (*key, str(at))) for at, each in enumerate(value)]
        if isinstance(value, str):
            if not value.isprintable() and any(0xD800 <= ord(char) < 0xE000 for char in value):
                raise self._error(key, "half of a surrogate pair is no text")
            return value
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and not math.isnan(value)):
            return value
        if isinstance(value, float):
            raise self._error(key, "not a number (.nan) is not a value that anything can be set to")
        raise self._error(key, f"expected text, a number, true, false, null, a list or a mapping; found {_described(value)}")

    def _text_key(self, name: Any, key: tuple[str, ...]) -> str:
        if isinstance(name, str):
            return name
        raise self._error((*key, str(name)), f"a key is text; write {str(name)!r} in quotes")

    def _error(self, key: tuple[str, ...], message: str) -> ConfigError:
        return ConfigError(f"{self._source}: {'.'.join(key) or '(top level)'}: {message}")


def _described(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.60}"
