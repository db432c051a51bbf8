"""Take over artifacts of an earlier version: the same files, under the id that today's rules give. Imports no torch.

A manifest holds the whole spec, so the id can be computed again: former keys get their current names, references to upstream
artifacts their new ones. The artifact appears under its new name in one rename, made of hard links to the files under the old
one, which is removed after that; so an interruption loses nothing, and the next run continues.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikedistill.errors import ArtifactError, UnknownComponentError
from spikedistill.plan.stages import STAGES, parse_spec
from spikedistill.store.artifacts import MANIFEST, MANIFEST_BACKUP, Store
from spikedistill.store.housekeeping import leave_work, owner_name, upstream_first
from spikedistill.store.inventory import FORMER_NAMES, Entry, artifacts, is_alive
from spikedistill.store.lease import held, lease_path

_REFERENCES = ("data", "teacher", "model")


@dataclass(frozen=True)
class Takeover:
    """What becomes of one artifact whose name is not the one that today's rules give.

    Attributes:
        old: its reference.
        new: its reference by today's rules; None if it cannot be taken over.
        spec: its spec by today's rules.
        upstream: what it was made from, by today's references: reference -> digest.
        reason: why it cannot be taken over.
    """

    old: str
    new: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


def takeovers(store: Store, entries: Mapping[str, Entry] | None = None) -> list[Takeover]:
    """Return every artifact of an earlier version, upstream first, and what becomes of it; changes nothing.

    Args:
        store: the store.
        entries: its artifacts, if they are known already.
    """
    entries = artifacts(store) if entries is None else entries
    names: dict[str, str | None] = {former: ref for ref, entry in entries.items() for former in entry.former_names}
    found = []
    for ref in upstream_first(entries):
        if not entries[ref].manifest or ref.partition("/")[0] not in {stage.folder for stage in STAGES.values()}:
            continue
        takeover = _takeover(entries, ref, names)
        names[ref] = takeover.new
        if takeover.new != ref:
            found.append(takeover)
    return found


def summary(found: list[Takeover]) -> str:
    """Return how many artifacts are of an earlier version, in a sentence with the command that takes them over; may be empty."""
    if not found:
        return ""
    possible = sum(each.new is not None for each in found)
    what = (
        f"{len(found)} artifacts are of an earlier version of spikedistill, whose ids were computed otherwise; no stage uses them"
    )
    advice = f"`spikedistill store upgrade` takes over {possible} of them" if possible else "none of them can be taken over"
    return f"{what}: {advice}"


def take_over(store: Store, found: list[Takeover]) -> Iterator[str]:
    """Take over what can be taken over, upstream first; yield a line about each."""
    for each in found:
        problem = each.reason
        if each.new is not None:
            try:
                problem = _move(store, each, each.new)
            except PermissionError as err:
                problem = f"{err.strerror}; the owner of its files can take it over"
            except (ArtifactError, OSError) as err:
                problem = str(err)
        yield f"left  {each.old}: {problem}" if problem else f"taken over  {each.old} -> {each.new}"


def describe(found: list[Takeover]) -> str:
    """Return what would be taken over, and what not, with the reason: a line for each."""
    return "\n".join(f"{each.old} -> {each.new}" if each.new else f"{each.old}: stays, {each.reason}" for each in found)


def modernized(spec: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a spec of an earlier version with the keys and the upstream references of today.

    Args:
        spec: the spec, as its manifest has it.
        names: new references of upstream artifacts by the old ones; those that are not in it stay.
    """
    new = json.loads(json.dumps(dict(spec)))
    train, neuron = new.get("train"), new.get("neuron")
    if isinstance(train, dict):
        if train.get("schedule") == "cosine":
            del train["schedule"]
        _rename(train, "decay", "weight_decay_on")
    if isinstance(neuron, dict) and neuron.get("fires") in ("at", "above"):
        neuron["spike_at_threshold"] = neuron.pop("fires") == "at"
    _rename(new, "divide_by_steps", "scale_grad_by_steps")
    for role in _REFERENCES:
        if isinstance(new.get(role), str):
            new[role] = names.get(new[role]) or new[role]
    return new


def _rename(section: dict[str, Any], former: str, key: str) -> None:
    if former in section and key not in section:
        section[key] = section.pop(former)


def _takeover(entries: Mapping[str, Entry], ref: str, names: Mapping[str, str | None]) -> Takeover:
    entry = entries[ref]
    if _ref_of(entry.manifest["spec"]) in (ref, None):  # of today; or of a component that is not installed here
        return Takeover(ref, ref)
    upstream = {}
    for former, digest in entry.upstream.items():
        name = names.get(former, former if former in entries else "")
        if not name:
            why = "cannot be taken over" if former in entries else "is not in this store"
            return Takeover(ref, reason=f"it was made from {former}, which {why}")
        if (entries.get(name) or entries[former]).digest != digest:
            return Takeover(ref, reason=f"it was made from another {name} than the one that is here")
        upstream[name] = digest
    spec = modernized(entry.manifest["spec"], names)
    new = _ref_of(spec)
    if not new:
        return Takeover(ref, reason="its spec is none that this version knows")
    if new in entries and new != ref and entries[new].digest != entry.digest:
        return Takeover(ref, reason=f"{new} is there already, made anew")
    if entry.problem:
        return Takeover(ref, reason=f"it is damaged: {entry.problem}")
    return Takeover(ref, new, parse_spec(json.dumps(spec)).model_dump(mode="json"), upstream)


def _ref_of(spec: Any) -> str | None:
    """Return the reference that a spec gives; "" if it is no spec of this version, None if its component is not installed."""
    try:
        return parse_spec(json.dumps(spec)).ref
    except UnknownComponentError:
        return None
    except ValueError:
        return ""


def _move(store: Store, takeover: Takeover, new: str) -> str | None:
    """Give an artifact its new name; return why that was not possible, None if it was."""
    old = takeover.old
    with contextlib.ExitStack() as stack:
        for path in [lease_path(store.work(ref)) for ref in (old, new)]:
            stack.callback(leave_work, path.parent)
            if stack.enter_context(held(path, owner_name(), functools.partial(is_alive, path))) is None:
                return "a running job holds its lease; run this again when it has ended"
        if not store.path(old).exists():
            return None  # another process was faster
        manifest = store.manifest(old)
        if store.status(new) == "missing":
            former = {FORMER_NAMES: [*manifest.get(FORMER_NAMES, []), old]}
            _link(store, old, new, manifest | {"artifact": new, "spec": takeover.spec, "upstream": takeover.upstream} | former)
        elif store.manifest(new)["digest"] != manifest["digest"]:
            return f"{new} is there already, made anew"
        hidden = store.path(old).parent / f".{Path(old).name}.{uuid.uuid4().hex[:8]}.old"
        store.path(old).rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)  # `store prune` removes what stays
    return None


def _link(store: Store, old: str, new: str, manifest: dict[str, Any]) -> None:
    """Make an artifact appear under its new name, with hard links to the files under the old one."""
    source, target = store.path(old), store.path(new)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    folder.mkdir()
    try:
        for name in manifest["files"]:
            if name in (MANIFEST, MANIFEST_BACKUP) or ".." in Path(name).parts or Path(name).is_absolute():
                raise ArtifactError(f"{old}: its manifest names {name!r}, which is no file of an artifact")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).hardlink_to(source / name)
        store.install(new, folder, json.dumps(manifest, indent=2) + "\n", lambda: None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
