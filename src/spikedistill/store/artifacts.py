"""Find, commit and verify artifacts. Imports no torch.

An artifact is a folder `<store>/<kind>/<name>/` with its files and a `manifest.json`. It appears in one rename and never
changes afterwards. Work in progress (resumable checkpoints, half-built folders, leases) lives in `<store>/.work/`, which
no Snakemake rule declares as output, so that no clean-up of incomplete outputs can remove it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spikedistill.components import fitting, matching, unknown
from spikedistill.errors import ArtifactError
from spikedistill.store.atomic import fsync, may_write, owner_of, share, shared_folder
from spikedistill.store.verified import noted_sha256, sha256

log = logging.getLogger(__name__)

KINDS = ("data", "evaluations", "students", "teachers")
"""Folders of the store in which artifacts lie, those of the stages. Others beside them belong to somebody else."""
WORK, SET_ASIDE = ".work", ".set-aside"
MANIFEST = "manifest.json"
MANIFEST_BACKUP = ".manifest.json"
MIN_FREE_BYTES = 64 * 1024
_NAME = re.compile(r"[^.].*-[0-9a-f]{10}")
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""Errors which tell that there is no such file, not that it could not be read."""
Status = Literal["missing", "complete", "unreadable"]


@dataclass(frozen=True)
class Damage:
    """The damage of one artifact: its reference, and one line per file."""

    ref: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.ref}: " + "; ".join(self.problems)


class UnreadableError(ArtifactError):
    """A file of an artifact could not be read, so that nobody knows whether it is damaged."""


def is_artifact_name(name: str) -> bool:
    """Return True if a name ends in an id, as that of every artifact does."""
    return _NAME.fullmatch(name) is not None


class Store:
    """A folder of artifacts, addressed by reference: `<kind>/<name>`, such as `teachers/digits-resnet18-3f9c2a71d0`."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser()

    def check(self) -> None:
        """Check that artifacts can be written here, without writing anything.

        Raises:
            ArtifactError: if not, with the reason.
        """
        existing = next(folder for folder in (self.root.absolute(), *self.root.absolute().parents) if folder.exists())
        if not existing.is_dir():
            raise ArtifactError(f"store {self.root}: {existing} is a file, not a folder; change `store:` in the configuration")
        if not may_write(existing):
            raise ArtifactError(f"store {self.root}: no permission to write in {existing}; change `store:` in the configuration")
        folders = [self.root / name for name in (*KINDS, WORK)]
        closed = [each for each in folders if each.is_dir() and not each.is_symlink() and not may_write(each)]
        if closed:
            owners = ", ".join(sorted({owner_of(each) for each in closed}))
            names = [str(each) for each in closed]
            remedy = f"so that the group can write there, {owners} can run: chmod g+ws {shlex.join(names)}"
            raise ArtifactError(f"store {self.root}: no permission to write in {', '.join(names)}; {remedy}")

    def path(self, ref: str) -> Path:
        """Return the folder of an artifact, whether it exists or not."""
        return self.root / ref

    def manifest_path(self, ref: str) -> Path:
        """Return the path of an artifact's manifest, the declared output of its Snakemake rule."""
        return self.path(ref) / MANIFEST

    def work(self, ref: str) -> Path:
        """Return the folder for work in progress on an artifact."""
        return self.root / WORK / Path(ref).name

    def open_work(self, ref: str) -> Path:
        """Return the folder for work in progress on an artifact; make it if it is not there.

        Raises:
            ArtifactError: if it is there, and somebody else's.
        """
        work = self.work(ref)
        shared_folder(work.parent)
        work.mkdir(exist_ok=True)
        if not may_write(work):
            raise ArtifactError(
                f"{work}: half-finished work of {owner_of(work)}, where you may not write. They can finish it, remove it, or let "
                f"the group continue it: chmod -R g+w {shlex.quote(str(work))}"
            )
        return work

    def status(self, ref: str) -> Status:
        """Return the state of an artifact. Reads the manifest, not the files: see `verify`."""
        try:
            self.manifest(ref)
        except FileNotFoundError:
            return "missing"
        except ArtifactError:
            return "unreadable"
        return "complete"

    def manifest(self, ref: str) -> dict[str, Any]:
        """Read the manifest of a committed artifact.

        Raises:
            FileNotFoundError: if there is no such artifact.
            ArtifactError: if the manifest is damaged, or could not be read.
        """
        path = self.manifest_path(ref)
        try:
            if not path.exists():
                self._restore_manifest(ref)
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except (*_NO_FILE, ValueError, RecursionError) as err:
            raise ArtifactError(f"{path}: damaged manifest ({err}); {REBUILD}") from err
        except OSError as err:
            raise UnreadableError(f"{path}: could not be read: {err.strerror or err}") from err
        if not _is_manifest(manifest):
            raise ArtifactError(f"{path}: not a manifest of an artifact; {REBUILD}")
        return manifest

    def _restore_manifest(self, ref: str) -> None:
        """Restore the manifest of a committed artifact.

        Snakemake removes the declared output of a job that it starts, or that failed, also when a job of another workflow
        that shares this store has made the artifact in the meantime.
        """
        with contextlib.suppress(FileExistsError, PermissionError):
            self.manifest_path(ref).hardlink_to(self.path(ref) / MANIFEST_BACKUP)

    def verify(self, ref: str, read: Callable[[Path], str] = sha256, *, copy: Path | None = None) -> Damage | None:
        """Compare every file of an artifact with its sha256. Return None when all is well.

        Args:
            ref: reference of the artifact.
            read: returns the sha256 of a file; by default, by reading all of it.
            copy: folder of a copy, whose files are compared with the checksums in the store instead.

        Raises:
            FileNotFoundError: if there is no such artifact.
            UnreadableError: if a file could not be read, so that this is not known.
        """
        try:
            manifest = self.manifest(ref)
        except UnreadableError:
            raise
        except ArtifactError as err:
            return Damage(ref, (str(err),))
        folder = self.path(ref) if copy is None else copy
        problems = [p for name, entry in manifest["files"].items() if (p := _check_file(folder / name, entry, read))]
        if not problems and _digest(manifest["files"]) != manifest["digest"]:
            problems.append(f"{MANIFEST}: its own digest does not match")
        return Damage(ref, tuple(problems)) if problems else None

    def open(self, ref: str) -> Path:
        """Verify the checksums of an artifact and return its folder: the only way in which a stage reads one.

        Large files are read once on each node, and again only if they look changed: see `store.verified`.

        Raises:
            ArtifactError: if it is missing or damaged.
        """
        try:
            damage = self.verify(ref, noted_sha256)
        except FileNotFoundError as err:
            raise ArtifactError(
                f"{self.path(ref)}: this artifact is not there yet. Run `snakemake`, or submit its stage first: "
                f"spikedistill submit {Path(ref).name}"
            ) from err
        if damage:
            raise ArtifactError(f"damaged artifact, not used: {self.root / str(damage)}; {REBUILD}")
        return self.path(ref)

    def open_copy(self, ref: str, copy: Path) -> Path:
        """Verify the checksums of a copy of an artifact, as on a node's own disk, and return its folder; else open the artifact.

        Raises:
            ArtifactError: if the artifact is missing or damaged, too.
        """
        with contextlib.suppress(FileNotFoundError):
            try:
                damage = self.verify(ref, noted_sha256, copy=copy)
                if damage is None:
                    return copy
                problem = "; ".join(damage.problems)
            except UnreadableError as err:
                problem = str(err)
            log.warning("the copy of %s in %s is not used: %s", ref, copy, problem)
        return self.open(ref)

    def refs(self) -> list[str]:
        """Return the references of all artifacts with a manifest, sorted."""
        names = ((kind, found.parent.name) for kind in KINDS for found in (self.root / kind).glob(f"*/{MANIFEST}"))
        return sorted(f"{kind}/{name}" for kind, name in names if is_artifact_name(name))

    def find(self, name: str, refs: Sequence[str] | None = None) -> str:
        """Return the reference of the artifact called `name`, with or without its folder; an unambiguous beginning will do.

        Args:
            name: the name.
            refs: the artifacts to choose from; all if None.

        Raises:
            ArtifactError: if there is none, or more than one.
        """
        refs = self.refs() if refs is None else refs
        found = matching(name, refs)
        if len(found) == 1:
            return found[0]
        if not found:
            names = [ref.partition("/")[2] for ref in refs]
            raise ArtifactError(f"store {self.root}: {unknown('artifact', name, names) if names else 'it is empty'}")
        raise ArtifactError(f"{name!r} fits {len(found)} artifacts: " + ", ".join(found))

    def select(self, names: Iterable[str], refs: Sequence[str] | None = None) -> list[str]:
        """Return the references that some names mean, each once: as in `find`, or all that fit a pattern with *, ? or [.

        Args:
            names: names, beginnings of names, and patterns.
            refs: the artifacts to choose from; all if None.

        Raises:
            ArtifactError: if a name means none or, without being a pattern, more than one.
        """
        refs = self.refs() if refs is None else refs
        chosen: dict[str, None] = {}
        for name in names:
            fits = fitting(name, refs)
            if fits is None:
                fits = [self.find(name, refs)]
            elif not fits:
                raise ArtifactError(
                    f"store {self.root}: no artifact fits the pattern {name!r}; `spikedistill store ls` lists all"
                )
            chosen |= dict.fromkeys(fits)
        return list(chosen)

    def made_from(self, ref: str, kind: str) -> dict[str, dict[str, Any]]:
        """Return the artifacts of a folder that were made from `ref` as it is now: reference -> manifest, oldest first."""
        digest = self.digest(ref)
        if digest is None:
            return {}
        manifests = {each: self._readable(each) for each in self.refs() if each.startswith(f"{kind}/")}
        found = {each: m for each, m in manifests.items() if m is not None and m["upstream"].get(ref) == digest}
        return dict(sorted(found.items(), key=lambda item: str(item[1].get("created"))))

    def is_current(self, ref: str, upstream: Collection[str]) -> bool:
        """Return True if artifact `ref` exists and was made from the `upstream` artifacts as they are now."""
        manifest = self._readable(ref)
        if manifest is None:
            return False
        digests = ((manifest["upstream"].get(each), self.digest(each)) for each in upstream)
        return all(stored is not None and used == stored for used, stored in digests)

    def digest(self, ref: str) -> str | None:
        """Return the digest of an artifact's files by its manifest, or None if there is no manifest that can be read."""
        manifest = self._readable(ref)
        return None if manifest is None else manifest["digest"]

    def _readable(self, ref: str) -> dict[str, Any] | None:
        """Return the manifest of an artifact, or None if there is none that can be read."""
        try:
            return self.manifest(ref)
        except (FileNotFoundError, ArtifactError):
            return None

    def set_aside(self, ref: str) -> Path:
        """Move an artifact to `<store>/.set-aside/`, so that the next run builds it again; return its new place."""
        target = self.root / SET_ASIDE / f"{Path(ref).name}-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:4]}"
        shared_folder(target.parent)
        self.path(ref).rename(target)
        return target

    @contextlib.contextmanager
    def building(
        self, ref: str, spec: dict[str, Any], upstream: tuple[str, ...], fence: Callable[[], None] = lambda: None
    ) -> Iterator[Build]:
        """Build an artifact in a hidden sibling folder; commit it in one rename when the block ends without an error.

        The caller holds the artifact's lease: what a killed or fenced-off build left behind is removed.

        Args:
            ref: reference of the artifact.
            spec: what it is made by.
            upstream: references of the artifacts that it is made from.
            fence: called right before the commit; raises if the caller no longer holds the lease.

        Raises:
            ArtifactError: if the disk is full.
        """
        target = self.path(ref)
        shared_folder(target.parent)
        for remains in (*target.parent.glob(f".{target.name}.*.tmp"), *target.parent.glob(f".{target.name}.*.old")):
            shutil.rmtree(remains, ignore_errors=True)
        folder = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
        folder.mkdir()
        try:
            build = Build(folder, {})
            yield build
            self._commit(ref, build, spec, upstream, fence)
        except (OSError, RuntimeError) as err:  # numpy and torch do not say why they could not write
            if self._is_full():
                text = f"store {self.root}: No space left on device while {ref} was made ({err}); free some, then run again"
                raise ArtifactError(text) from err
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _is_full(self) -> bool:
        try:
            return shutil.disk_usage(self.root).free < MIN_FREE_BYTES
        except OSError:
            return False

    def _commit(self, ref: str, build: Build, spec: dict[str, Any], upstream: tuple[str, ...], fence: Callable[[], None]) -> None:
        files = {str(p.relative_to(build.folder)): _seal(p) for p in sorted(build.folder.rglob("*")) if p.is_file()}
        manifest = {
            "schema": 1,
            "artifact": ref,
            "spec": spec,
            "upstream": {name: self.manifest(name)["digest"] for name in upstream},
            "files": files,
            "digest": _digest(files),
            **build.provenance,
        }
        _write_manifest(build.folder, json.dumps(manifest, indent=2) + "\n")
        fence()
        if self.is_current(ref, upstream):  # an earlier holder of the lease made it after all, from the same upstream
            return
        self._install(build.folder, self.path(ref))

    def adopt(self, ref: str, folder: Path, manifest: str, fence: Callable[[], None] = lambda: None) -> None:
        """Verify the files of an artifact that was copied to `folder`, and commit it in one rename; the caller holds its lease.

        Args:
            ref: reference of the artifact.
            folder: its files, and nothing else, on the file system of the store.
            manifest: the text of its manifest.
            fence: called right before the commit; raises if the caller no longer holds the lease.

        Raises:
            ArtifactError: if a file is missing or differs from its checksum; nothing was committed.
        """
        expected = json.loads(manifest)
        files = {str(p.relative_to(folder)): _seal(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        problems = [p for name, entry in expected["files"].items() if (p := _difference(name, files.get(name), entry))]
        problems += [f"{name}: not in its manifest" for name in files.keys() - expected["files"].keys()]
        if not problems and _digest(files) != expected["digest"]:
            problems.append(f"{MANIFEST}: its own digest does not match")
        if problems:
            raise ArtifactError(f"{ref}: {'; '.join(problems)}")
        self.install(ref, folder, manifest, fence)

    def install(self, ref: str, folder: Path, manifest: str, fence: Callable[[], None]) -> None:
        """Commit a folder with the files of an artifact under its manifest, without verifying them. See `adopt`."""
        _write_manifest(folder, manifest)
        fence()
        shared_folder(self.path(ref).parent)
        self._install(folder, self.path(ref))

    def _install(self, folder: Path, target: Path) -> None:
        remains = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.old"
        replaced = target.is_dir() and any(target.iterdir())
        if replaced:
            _rename(target, remains)
        try:
            _rename(folder, target)
        except OSError:
            if replaced:
                _rename(remains, target)
            raise
        fsync(target.parent)
        shutil.rmtree(remains, ignore_errors=True)


def _write_manifest(folder: Path, text: str) -> None:
    """Write the manifest of a folder that is about to be committed, and make its folders durable and readable for the group."""
    path = folder / MANIFEST
    path.write_text(text, encoding="utf-8")
    _seal(path)
    (folder / MANIFEST_BACKUP).hardlink_to(path)
    for each in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        share(each, with_group=True)
        fsync(each)


def _rename(folder: Path, target: Path) -> None:
    """Rename a folder; a network file system may report an error for a request that it repeated and that had succeeded."""
    identity = folder.stat().st_ino
    try:
        folder.rename(target)
    except OSError:
        if folder.exists() or not target.exists() or target.stat().st_ino != identity:
            raise


@dataclass
class Build:
    """An artifact in the making: put files into `folder`, and facts about the run into `provenance`."""

    folder: Path
    provenance: dict[str, Any]


REBUILD = "to have it built again: `spikedistill verify --set-aside`, then run snakemake"


def _is_manifest(content: Any) -> bool:
    """Return True if the content of a file has the form of a manifest, so that whoever reads it need not check again."""
    match content:
        case {"spec": dict(), "files": dict(files), "digest": str(), "upstream": dict(upstream)}:
            entries = all(
                isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)
                for entry in files.values()
            )
            return entries and all(isinstance(digest, str) for digest in upstream.values())
    return False


def _check_file(path: Path, entry: dict[str, Any], read: Callable[[Path], str]) -> str | None:
    """Compare a file with its entry in the manifest; return how it differs, None if it does not."""
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"{path.name}: {size} bytes, expected {entry['bytes']}"
        found = read(path)
    except _NO_FILE as err:
        return f"{path.name}: {err.strerror or err}"
    except OSError as err:
        raise UnreadableError(f"{path}: could not be read: {err.strerror or err}") from err
    return None if found == entry["sha256"] else f"{path.name}: sha256 {found[:12]}…, expected {entry['sha256'][:12]}…"


def _difference(name: str, found: dict[str, Any] | None, expected: dict[str, Any]) -> str | None:
    if found is None:
        return f"{name}: missing"
    if found["bytes"] != expected["bytes"]:
        return f"{name}: {found['bytes']} bytes, expected {expected['bytes']}"
    if found["sha256"] != expected["sha256"]:
        return f"{name}: sha256 {found['sha256'][:12]}…, expected {expected['sha256'][:12]}…"
    return None


def _digest(files: dict[str, Any]) -> str:
    listing = json.dumps(sorted((name, entry["sha256"]) for name, entry in files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def _seal(path: Path) -> dict[str, Any]:
    share(path, with_group=True)
    fsync(path)
    return {"sha256": sha256(path), "bytes": path.stat().st_size}
