"""Writes and loads an exported network, a folder that depends on neither the store nor the configuration it came from."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_model

from spikedistill import components, plugins
from spikedistill.data.loading.inputs import STATISTICS
from spikedistill.data.store import SampleStore, open_store
from spikedistill.errors import ArtifactError, ConfigError, UnknownComponentError
from spikedistill.export.card import model_card
from spikedistill.models import Student, Teacher, build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.plan.stages import DistillSpec, NetworkSpec, TeacherSpec, parse_spec
from spikedistill.report.compare import newest_evaluation
from spikedistill.stages.imports import DataFacts
from spikedistill.stages.network_io import WEIGHTS, build_network, load_network, read_model_spec, save_network
from spikedistill.store.artifacts import Store
from spikedistill.store.atomic import share
from spikedistill.store.verified import sha256

MODEL = "model.json"
CARD = "README.md"
NIR = "model.nir"
SCHEMA = 1


def write_export(store: Store, ref: str, out: Path, *, nir: bool = False) -> list[Path]:
    """Write a trained network to a new folder.

    Args:
        store: the store that holds it and the data it was trained on.
        ref: reference of the teacher or student.
        out: the folder, which must not exist; it appears once it is complete.
        nir: also write a NIR graph, see `export.nir`; for students only.

    Returns:
        The files: weights.safetensors, model.json, README.md and, if `nir`, model.nir; readable as the umask allows.

    Raises:
        ArtifactError: if the network or its data is missing or damaged.
        ConfigError: if `out` exists, if `ref` is not a network, or if NIR cannot express it.
    """
    refuse_to_replace(out)
    folder = store.open(ref)
    spec = read_model_spec(folder)
    data = open_store(store.open(spec.data))
    network = load_network(spec, data, folder)
    evaluation = newest_evaluation(store, ref)
    draft = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    draft.mkdir(parents=True)
    try:
        save_network(network, draft)
        about = describe(spec, data) | {"sha256": {WEIGHTS: sha256(draft / WEIGHTS)}}
        (draft / MODEL).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        if nir:
            from spikedistill.export.nir import write_nir

            write_nir(network, data, spec, draft / NIR)
        card = model_card(ref, about, store.manifest(ref), evaluation, folder=out.name, nir=nir)
        (draft / CARD).write_text(card, encoding="utf-8")
        names = sorted(path.name for path in draft.iterdir())
        for name in names:
            share(draft / name)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [out / name for name in names]


def refuse_to_replace(out: Path) -> None:
    """Raise a ConfigError if there is something where an export is to be written."""
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another --out, or move it away")


def describe(spec: NetworkSpec, data: SampleStore) -> dict[str, Any]:
    """Return everything that is needed to rebuild the network and to prepare its input: the content of model.json."""
    mean, std = STATISTICS.get(spec.inputs.normalize, (data.mean, data.std))
    size = spec.inputs.size(*data.samples.shape[-2:])
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "role": spec.role,
        "arch": spec.arch,
        "num_classes": data.num_classes,
        "in_channels": data.channels,
        "input": {"kind": data.kind, "stored": list(data.samples.shape[1:]), "size": size, "mean": mean, "std": std},
        "class_names": list(data.class_names),
        "spec": spec.model_dump(mode="json"),
    }
    modules = [components.architecture(spec.arch).module]
    if isinstance(spec, DistillSpec):
        about |= {"time_steps": spec.time_steps, "neuron": spec.neuron.model_dump(mode="json")}
        modules.append(components.module_of("neurons.kinds", spec.neuron.name))
    return about | {"plugins": plugins.of_modules(modules)}


def load(folder: Path | str) -> Student | Teacher:
    """Load the network of an exported folder, in evaluation mode and without gradients.

    Raises:
        ConfigError: if the folder is not an export that this version can read, or a plug-in of the network is not used.
        ArtifactError: if the weights are not those that were exported.
    """
    try:
        about = json.loads((Path(folder) / MODEL).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ConfigError(f"{folder}: not an exported network: {err}") from err
    if about.get("schema") != SCHEMA:
        raise ConfigError(f"{folder}: exported in format {about.get('schema')}; this version reads format {SCHEMA}")
    _verify(Path(folder), about.get("sha256", {}))
    try:
        network = _rebuilt(about)
    except UnknownComponentError as err:
        if not about.get("plugins"):
            raise
        names = ", ".join(map(repr, about["plugins"]))
        raise ConfigError(f"{folder}: {err}; exported with plug-ins: call spikedistill.use_plugins({names}) first") from err
    load_model(network, str(Path(folder) / WEIGHTS))
    return network.requires_grad_(False).eval()


def _rebuilt(about: Mapping[str, Any]) -> Student | Teacher:
    """Build the network that `describe` described, with fresh weights."""
    if about["role"] == "teacher" and any(about["spec"].get(key) for key in ("weights", "own_inputs", "classes")):
        given = about["input"]
        statistics = (given["mean"], given["std"]) if given["kind"] == "images" else None
        facts = DataFacts(given["kind"], about["num_classes"], about["in_channels"], statistics)
        spec = parse_spec(json.dumps(about["spec"]))
        assert isinstance(spec, TeacherSpec)
        return build_network(spec, facts)
    shape = {"num_classes": about["num_classes"], "in_channels": about["in_channels"], "entry": about["spec"]["network"]}
    if about["role"] == "teacher":
        return build_teacher(about["arch"], **shape)
    neuron = NeuronConfig.model_validate(about["neuron"])
    given = about["input"]
    return build_student(
        about["arch"],
        **shape,
        time_steps=about["time_steps"],
        neuron=neuron,
        encoding=about["spec"].get("encoding", "direct"),
        statistics=(given["mean"], given["std"]) if given["kind"] == "images" else None,
    )


def _verify(folder: Path, checksums: Mapping[str, str]) -> None:
    """Compare files of an export with their checksums; exports of earlier versions have none."""
    for name, expected in checksums.items():
        if sha256(folder / name) != expected:
            raise ArtifactError(f"{folder / name}: does not match its checksum in {MODEL}; copy or export the network again")
