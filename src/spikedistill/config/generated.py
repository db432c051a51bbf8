"""Generate what is written from the code: schema, reference, and the tables in README.md and docs/. Imports no torch.

A document holds a table between two markers, and `update_marked` replaces what is between them:

    <!-- generated: methods -->
    <!-- /generated -->
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from spikedistill import components, plugins
from spikedistill.config.reference import REFERENCE_FILE, configuration_reference
from spikedistill.config.schema import SCHEMA_FILE, schema_text
from spikedistill.errors import ConfigError
from spikedistill.neurons.settings import COMMON_KEYS, NeuronConfig
from spikedistill.store.atomic import write_text

ROOT = Path(__file__).parents[3]
"""The checkout. An installed package has no documents to update."""

GENERATED = "generated"
"""The kind of markers whose tables come from the code; benchmarks have another one for what they measured."""
_VARIANT = re.compile(r"_(dvs|imagenet)$")


def generated_files() -> dict[Path, str]:
    """Return what each generated file of the checkout should hold.

    Raises:
        ConfigError: if this is an installed package, which has no documents beside it.
    """
    if not (ROOT / "docs").is_dir():
        raise ConfigError(f"{ROOT} is no checkout of spikedistill, so there is nothing to generate")
    return {SCHEMA_FILE: schema_text(), REFERENCE_FILE: configuration_reference(), **updated_documents(ROOT)}


def write_stale(files: Mapping[Path, str]) -> list[Path]:
    """Write the files whose content is not the given one; return their paths."""
    return [write_text(file, text) for file, text in files.items() if _content(file) != text]


def _content(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def component_tables() -> dict[str, str]:
    """Return every generated table by name: the overviews, and `parameters of NAME` for each method and neuron."""
    tables = {
        "methods": method_table(),
        "datasets": dataset_table(),
        "architectures": architecture_table(),
        "neuron": parameter_table(NeuronConfig),
        "neurons": neuron_table(),
    }
    for name in components.names("neurons.kinds"):
        tables[f"parameters of neuron {name}"] = parameter_table(components.load("neurons.kinds", name).Params)
    for name in components.names("distill"):
        tables[f"parameters of {name}"] = parameter_table(components.load("distill", name).Params)
    return tables


def update_marked(text: str, tables: Mapping[str, str], kind: str = GENERATED) -> str:
    """Replace what is between the markers of a kind in a document by the table that they name.

    Raises:
        ValueError: if a marker names no table, or lacks its counterpart.
    """

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in tables:
            raise ValueError(f"no generated table {name!r}; there are: {', '.join(tables)}")
        return f"<!-- {kind}: {name} -->\n\n{tables[name].strip()}\n\n<!-- /{kind} -->"

    marked = re.compile(rf"(?ms)^<!-- {kind}: (?P<name>[^\n]+?) -->\n.*?^<!-- /{kind} -->$")
    if 2 * len(marked.findall(text)) != len(_markers(text, kind)):
        raise ValueError(f"a marker `<!-- {kind}: NAME -->` or `<!-- /{kind} -->` lacks its counterpart")
    return marked.sub(replace, text)


def _markers(text: str, kind: str) -> list[str]:
    return re.findall(rf"(?m)^<!-- /?{kind}\b.*$", text)


def updated_documents(root: Path = ROOT) -> dict[Path, str]:
    """Return every document of a checkout that has markers, with its tables up to date."""
    tables = component_tables()
    files = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    texts = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    return {file: update_marked(text, tables) for file, text in texts.items() if _markers(text, GENERATED)}


def method_table() -> str:
    """Return a table of the methods: whether each needs a teacher, and whether it works with rate-based backpropagation."""
    rows = []
    for name in components.names("distill"):
        method = components.load("distill", name)
        teacher = "yes" if "teacher" in method.needs(method.Params()) else "no"
        rows.append((f"`{name}`", teacher, _works_with_rate(method), _summary(method.__doc__)))
    return _table(("method", "teacher", "`backward: rate`", "what it does"), rows)


def _works_with_rate(method: Any) -> str:
    """Return "yes", "no", or the settings of a parameter with which a method needs no logits of single steps."""
    if "steps" not in method.needs(method.Params()):
        return "yes"
    settings = [
        f"`{key}: {value}`"
        for key, field in method.Params.model_fields.items()
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
        if "steps" not in method.needs(method.Params(**{key: value}))
    ]
    return f"with {' or '.join(settings)}" if settings else "no"


def neuron_table() -> str:
    """Return a table of the neurons: the common keys that each uses, and what it works with."""
    rows = []
    for name in components.names("neurons.kinds"):
        neuron = components.load("neurons.kinds", name)
        used = "all" if neuron.USES == COMMON_KEYS else ", ".join(f"`{key}`" for key in sorted(neuron.USES))
        works = ("yes" if ability in neuron.SUPPORTS else "no" for ability in ("rate", "nir"))
        rows.append((f"`{name}`", used, *works, _summary(neuron.__doc__)))
    return _table(("neuron", "common keys", "`backward: rate`", "NIR", "about"), rows)


def dataset_table() -> str:
    """Return a table of the datasets: what one sample is by default, classes, and samples to train and to test on."""
    rows = []
    for name in components.names("data.datasets"):
        dataset = components.load("data.datasets", name)
        if hasattr(dataset, "scan"):
            sample = "frames" if "num_frames" in dataset.Params.model_fields else "image"
            rows.append((f"`{name}`", sample, "as found", "as found", _summary(dataset.__doc__)))
            continue
        meta = dataset.describe(dataset.Params())
        shape = [meta.channels, meta.height, meta.width]
        sample = f"frames {_times(meta.num_frames, *shape)}" if meta.kind == "frames" else f"image {_times(*shape)}"
        samples = " + ".join(f"{count:,}" for count in dataset.SPLIT_SAMPLES)
        rows.append((f"`{name}`", sample, f"{meta.num_classes}", samples, _summary(dataset.__doc__)))
    return _table(("dataset", "one sample", "classes", "train + test", "about"), rows)


def architecture_table() -> str:
    """Return a table of the architectures by file, with the variants of each."""
    names: dict[str, dict[str, list[str]]] = {}
    for name, (module, _) in components.architectures().items():
        variants = names.setdefault(module, {}).setdefault(_VARIANT.sub("", name), [])
        variants += [f"`{match[0]}`" for match in [_VARIANT.search(name)] if match]
    rows = []
    for module, architectures in names.items():
        entries = [f"`{name}`" + (f" ({', '.join(each)})" if each else "") for name, each in architectures.items()]
        rows.append((", ".join(entries), _summary(_docstring(module))))
    return _table(("architectures (variants by ending)", "about"), rows)


def parameter_table(model: type[BaseModel]) -> str:
    """Return a table of a model's parameters."""
    if not model.model_fields:
        return "No parameters."
    rows = [(f"`{key}`", f"`{_plain(field.default)}`", field.description or "") for key, field in model.model_fields.items()]
    return _table(("parameter", "default", "meaning"), rows)


def _plain(value: Any) -> str:
    """Return a default as one writes it in YAML."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _times(*sizes: int | None) -> str:
    return "×".join(map(str, sizes))  # noqa: RUF001


def _summary(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _docstring(module: str) -> str | None:
    """Return the docstring of a file of `models/` without importing it, which would import torch."""
    return ast.get_docstring(ast.parse(plugins.file_of(module).read_text(encoding="utf-8")))


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, *rows]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    first, *rest = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([first, f"|{'---|' * len(header)}", *rest])
