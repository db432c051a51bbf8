"""Runs one stage: takes its lease, verifies its inputs, builds and commits its artifact. Every rank calls `run_stage`."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import json
import logging
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikedistill.errors import ArtifactError
from spikedistill.plan.stages import Spec, check_code
from spikedistill.store import atomic, lease
from spikedistill.store.artifacts import Store
from spikedistill.store.provenance import Clock, record_start
from spikedistill.train.settings import EngineConfig

log = logging.getLogger(__name__)

INPUTS = "inputs.json"
"""In the work folder of a stage: the digests of the artifacts that its state was made from."""


@dataclass(frozen=True)
class RunOptions:
    """Settings of one run that do not change its result.

    Attributes:
        results: folder of reports and TensorBoard logs.
        raw: folder of the raw data for stage `preprocess`; None for a dataset that needs none.
        num_workers: number of processes that prepare data.
        engine: speed, memory and checkpoints of training.
        gpus: GPUs that the job requested on each node; with any, running on the CPU is an error.
        weights: checkpoint of a network that is imported; None for others.
        copies: folders of copies of upstream artifacts, by the artifact's name; others are read from the store.
    """

    results: Path = Path("results")
    raw: Path | None = None
    num_workers: int = 1
    engine: EngineConfig = field(default_factory=EngineConfig)
    gpus: int = 0
    weights: Path | None = None
    copies: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class StageJob:
    """The places that the `build` function of a stage reads from and writes to.

    Attributes:
        inputs: folders of the upstream artifacts by role, verified.
        out: folder of the artifact being built; only rank 0 writes to it.
        work: folder for resumable state; it survives an interruption.
        options: settings that do not change the result.
        claim: the lease under which this is made; None on ranks other than 0, which do not hold it.
        provenance: where it ran, for the manifest; a stage sets "device" and "world_size".
        facts: further facts for the manifest, by name.
    """

    inputs: dict[str, Path]
    out: Path
    work: Path
    options: RunOptions
    claim: lease.Lease | None = None
    provenance: dict[str, Any] = field(default_factory=lambda: {"device": "cpu", "world_size": 1})
    facts: dict[str, Any] = field(default_factory=dict)


def run_stage(spec: Spec, store: Store, options: RunOptions) -> Path:
    """Make the artifact of `spec` unless it is already in the store; return its folder.

    If two runs want the same artifact at the same time, one makes it and the other waits for it.

    Raises:
        ArtifactError: if an upstream artifact is missing or damaged.
        StaleCodeError: if the code is not the one that the stage was planned with.
    """
    check_code(spec)
    if _is_done(spec, store):
        log.info("%s is there already: nothing to do", spec.ref)
        return store.path(spec.ref)
    work = store.open_work(spec.ref)
    owner = _owner()
    if int(os.environ.get("RANK", "0")) > 0:
        is_owned = lease.wait_for_owner(lease.lease_path(work), owner, lambda: _is_done(spec, store))
        if is_owned and not _is_done(spec, store):
            _build(spec, StageJob(_paths(spec, store, options.copies), work, work, options))
        return store.path(spec.ref)
    with lease.held(lease.lease_path(work), owner, lambda: _is_done(spec, store)) as mine:
        if mine and not _is_done(spec, store):
            _build_and_commit(spec, store, work, options, mine)
            _remove_work(work)
    with contextlib.suppress(OSError):  # not empty if another run waits for the lease
        work.rmdir()
    log.info("%s is ready: %s", spec.ref, store.path(spec.ref))
    return store.path(spec.ref)


def _build_and_commit(spec: Spec, store: Store, work: Path, options: RunOptions, mine: lease.Lease) -> None:
    upstream = tuple(spec.upstream.values())
    _forget_other_inputs(work, {ref: store.digest(ref) for ref in upstream})
    clock, starts = Clock(), record_start(work, upstream)
    inputs = {role: _opened(ref, store, options.copies) for role, ref in spec.upstream.items()}
    with store.building(spec.ref, spec.model_dump(mode="json"), upstream, fence=mine.check) as build:
        job = StageJob(inputs, build.folder, work, options, mine)
        _build(spec, job)
        build.provenance.update(clock.provenance(**job.provenance), starts=starts, **job.facts)


def _forget_other_inputs(work: Path, digests: Mapping[str, str | None]) -> None:
    """Start from the beginning if what was done so far is from other inputs, which were made again since."""
    noted = work / INPUTS
    text = json.dumps(digests, indent=1, sort_keys=True) + "\n"
    try:
        is_same = noted.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        is_same = True  # nothing was done yet
    if not is_same:
        log.warning("its inputs were made again since it was interrupted: it starts from the beginning")
        _remove_work(work)
    atomic.write_text(noted, text)


def _build(spec: Spec, job: StageJob) -> None:
    importlib.import_module(f"spikedistill.stages.{spec.stage}").build(spec, job)


def _is_done(spec: Spec, store: Store) -> bool:
    return store.is_current(spec.ref, spec.upstream.values())


def _opened(ref: str, store: Store, copies: Mapping[str, Path]) -> Path:
    copy = copies.get(Path(ref).name)
    folder = store.open(ref) if copy is None else store.open_copy(ref, copy)
    if folder == copy:
        log.info("%s is read from its copy %s", ref, copy)
    return folder


def _paths(spec: Spec, store: Store, copies: Mapping[str, Path]) -> dict[str, Path]:
    missing = [ref for ref in spec.upstream.values() if store.status(ref) != "complete"]
    if missing:
        raise ArtifactError(f"missing or damaged in {store.root}: {', '.join(missing)}")
    upstream = spec.upstream.items()  # of the store, rank 0 verifies the files; a copy may be on this node alone
    return {role: _opened(ref, store, copies) if Path(ref).name in copies else store.path(ref) for role, ref in upstream}


def _owner() -> str:
    """Return a name of this job that all its ranks share."""
    environment = os.environ
    if "MASTER_ADDR" in environment and int(environment.get("WORLD_SIZE", "1")) > 1:
        address = environment["MASTER_ADDR"]
        host = f"{socket.gethostname()} " if _is_loopback(address) else ""  # which every machine has
        return f"{host}{address}:{environment.get('MASTER_PORT', '')}"
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_loopback(address: str) -> bool:
    """Return True if an address means the machine itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _remove_work(work: Path) -> None:
    for entry in work.iterdir():
        if lease.is_lease_file(entry):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
