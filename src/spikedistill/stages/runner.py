"""Runs one stage: takes its lease, verifies what it reads, builds, commits. Every rank of the job calls `run_stage`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikedistill.errors import ArtifactError
from spikedistill.plan.stages import PreprocessSpec, Spec
from spikedistill.store import lease
from spikedistill.store.artifacts import Store
from spikedistill.store.provenance import Clock, record_start
from spikedistill.train.settings import EngineConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageOptions:
    """What a run needs to know that does not change its result."""

    results: Path = Path("results")
    raw: Path | None = None
    num_workers: int = 1
    engine: EngineConfig = field(default_factory=EngineConfig)


@dataclass(frozen=True)
class StageJob:
    """What a stage's `build` gets: where to read, where to write.

    Attributes:
        inputs: folders of the upstream artifacts by role, verified.
        out: the artifact in the making; only rank 0 writes there.
        work: folder that survives an interruption; for resumable state.
        options: what does not change the result.
        provenance: facts to record in the manifest: set "device" and "world_size".
    """

    inputs: dict[str, Path]
    out: Path
    work: Path
    options: StageOptions
    provenance: dict[str, Any] = field(default_factory=lambda: {"device": "cpu", "world_size": 1})


def run_stage(spec: Spec, store: Store, options: StageOptions) -> Path:
    """Make the artifact of `spec`, unless it is there already; return its folder.

    Two runs that want the same artifact at the same time: one makes it, the other waits and uses it.

    Raises:
        ArtifactError: if an upstream artifact is missing or damaged.
    """
    if _is_done(spec, store):
        log.info("%s is there already: nothing to do", spec.ref)
        return store.path(spec.ref)
    work = store.work(spec.ref)
    work.mkdir(parents=True, exist_ok=True)
    owner = _owner()
    if int(os.environ.get("RANK", "0")) > 0:
        if isinstance(spec, PreprocessSpec):  # works in processes of its own, on rank 0
            return store.path(spec.ref)
        if lease.wait_for_owner(work / "lease", owner, lambda: _is_done(spec, store)):
            _build(spec, StageJob(_paths(spec, store), work, work, options))
        return store.path(spec.ref)
    with lease.held(work / "lease", owner, lambda: _is_done(spec, store)) as mine:
        if mine and not _is_done(spec, store):
            _build_and_commit(spec, store, work, options)
            _remove_work(work)
    with contextlib.suppress(OSError):  # not empty: another run waits here
        work.rmdir()
    log.info("%s is ready: %s", spec.ref, store.path(spec.ref))
    return store.path(spec.ref)


def _build_and_commit(spec: Spec, store: Store, work: Path, options: StageOptions) -> None:
    clock, starts = Clock(), record_start(work)
    inputs = {role: store.open(ref) for role, ref in spec.upstream.items()}
    with store.building(spec.ref, spec.model_dump(mode="json"), tuple(spec.upstream.values())) as build:
        job = StageJob(inputs, build.folder, work, options)
        _build(spec, job)
        build.provenance.update(clock.provenance(**job.provenance), starts=starts)


def _build(spec: Spec, job: StageJob) -> None:
    importlib.import_module(f"spikedistill.stages.{spec.stage}").build(spec, job)


def _is_done(spec: Spec, store: Store) -> bool:
    return store.is_current(spec.ref, spec.upstream.values())


def _paths(spec: Spec, store: Store) -> dict[str, Path]:
    missing = [ref for ref in spec.upstream.values() if store.status(ref) != "complete"]
    if missing:
        raise ArtifactError(f"missing or damaged in {store.root}: {', '.join(missing)}")
    return {role: store.path(ref) for role, ref in spec.upstream.items()}


def _owner() -> str:
    environment = os.environ
    if "MASTER_ADDR" in environment and int(environment.get("WORLD_SIZE", "1")) > 1:
        return f"{environment['MASTER_ADDR']}:{environment.get('MASTER_PORT', '')}"
    return f"{socket.gethostname()}:{os.getpid()}"


def _remove_work(work: Path) -> None:
    for entry in work.iterdir():
        if entry.name.startswith("lease"):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
