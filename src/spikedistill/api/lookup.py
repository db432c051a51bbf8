"""What there is: components by name, stores, prepared data. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from spikedistill import components, plugins
from spikedistill.data.store import SampleStore
from spikedistill.data.store import open_store as open_samples
from spikedistill.errors import ArtifactError
from spikedistill.store.artifacts import Store


def list_methods() -> tuple[str, ...]:
    """Return the names of all methods, of plug-ins too."""
    return components.names("distill")


def list_datasets() -> tuple[str, ...]:
    """Return the names of all datasets, of plug-ins too."""
    return components.names("data.datasets")


def list_architectures() -> tuple[str, ...]:
    """Return the names of all architectures, of plug-ins too."""
    return tuple(components.architectures())


def list_neurons() -> tuple[str, ...]:
    """Return the names of all neurons, of plug-ins too."""
    return components.names("neurons.kinds")


def list_optimizers() -> tuple[str, ...]:
    """Return the names of all optimizers, of plug-ins too."""
    return components.names("train.optimizers")


def list_schedules() -> tuple[str, ...]:
    """Return the names of all schedules of the learning rate, of plug-ins too."""
    return components.names("train.schedules")


def use_plugins(*names: str) -> None:
    """Use plug-ins, as `plugins:` in the configuration does, instead of those used before.

    Args:
        names: packages, and folders relative to the working directory: `"my_lab.snn"`, `"./plugins"`.

    Raises:
        ConfigError: if one cannot be used.
    """
    plugins.activate(names)


def open_store(folder: Path | str = "store") -> Store:
    """Open a store of artifacts.

    Raises:
        ArtifactError: if there is no such folder.
    """
    store = Store(folder)
    if not store.root.is_dir():
        raise ArtifactError(f"store {store.root.absolute()}: no such folder; it is `store:` in the configuration")
    return store


def open_data(name: str, store: Store | Path | str = "store") -> SampleStore:
    """Open a prepared dataset, after its checksums were compared.

    Args:
        name: of a prepared dataset, or of a network, whose data is opened; an unambiguous beginning will do.
        store: the store, or its folder.

    Raises:
        ArtifactError: if there is none of that name, more than one, or it is damaged.
    """
    store = store if isinstance(store, Store) else open_store(store)
    ref = store.find(name)
    return open_samples(store.open(store.manifest(ref)["spec"].get("data", ref)))
