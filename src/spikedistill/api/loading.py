"""`load`: a trained network by name, or from the folder of an artifact or of an export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spikedistill.api.lookup import open_store
from spikedistill.api.trained import InputFacts, TrainedNetwork
from spikedistill.data.store import open_store as open_samples
from spikedistill.errors import ConfigError
from spikedistill.export.folder import MODEL, describe
from spikedistill.export.folder import load as load_export
from spikedistill.models import Student, Teacher
from spikedistill.plan.stages import NetworkSpec, parse_spec
from spikedistill.stages.network_io import load_network, read_model_spec
from spikedistill.store.artifacts import MANIFEST, Store


def load(name_or_folder: Path | str, store: Store | Path | str = "store") -> TrainedNetwork:
    """Load a trained network; its checksums, and those of the data that it was trained on, are compared.

    Args:
        name_or_folder: name of a teacher or student in the store, of which an unambiguous beginning will do; or the folder of its
            artifact, or one that `spikedistill export` wrote.
        store: the store, or its folder; not used for folders.

    Raises:
        ArtifactError: if there is no artifact of that name, more than one, or it is damaged.
        ConfigError: if it is not a network, or was made by another version of spikedistill.
    """
    folder = Path(name_or_folder).expanduser()
    if (folder / MODEL).is_file():
        return _exported(folder)
    if (folder / MANIFEST).is_file():
        folder = folder.resolve()
        return _from_store(Store(folder.parents[1]), f"{folder.parent.name}/{folder.name}")
    if folder.is_dir() and len(folder.parts) > 1:
        raise ConfigError(f"{folder}: neither an artifact, with {MANIFEST}, nor an export, with {MODEL}")
    store = store if isinstance(store, Store) else open_store(store)
    return _from_store(store, store.find(str(name_or_folder)))


def _from_store(store: Store, ref: str) -> TrainedNetwork:
    folder = store.open(ref)
    spec = read_model_spec(folder)
    data = open_samples(store.open(spec.data))
    return _trained(load_network(spec, data, folder), spec, describe(spec, data))


def _exported(folder: Path) -> TrainedNetwork:
    network = load_export(folder)
    about = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    spec = parse_spec(json.dumps(about["spec"]))
    assert isinstance(spec, NetworkSpec)
    return _trained(network, spec, about)


def _trained(network: Student | Teacher, spec: NetworkSpec, about: dict[str, Any]) -> TrainedNetwork:
    return TrainedNetwork(network, spec, about["class_names"], InputFacts.from_json(about["input"]))
