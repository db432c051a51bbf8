"""Copy artifacts between stores, with their upstreams: folders, or on another machine by rsync over ssh. Imports no torch.

A copy grows in `<store>/.work/NAME/transfer/` under the artifact's lease, where an interrupted one goes on the next time; it is
verified there and becomes visible in one rename. Another store is trusted no further than its checksums: the names in its
manifests are checked before anything is written, and links in it are not followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from spikedistill.errors import ArtifactError
from spikedistill.store.artifacts import MANIFEST, Store
from spikedistill.store.atomic import write_text
from spikedistill.store.housekeeping import leave_work, owner_name
from spikedistill.store.inventory import TRANSFER, format_size
from spikedistill.store.lease import held, lease_path
from spikedistill.store.verified import sha256

_REMOTE = re.compile(r"(?P<host>(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9_.-]*):(?P<path>.*)", re.DOTALL)
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*/[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RSYNC = ("rsync", "--protect-args", "--times", "--omit-dir-times", "--no-perms", "--chmod=ugo=rwX")
_THERE_ALREADY = 17

# Makes the hidden folder of an upload; the group may write to the folder of its kind if it may write to the store.
_MAKE = """
set -eu
mkdir -p -- {store}
if mkdir -- {kind} 2>/dev/null && test -n "$(cd -- {store} && find . -prune -perm -2020)"; then
  chmod g+w -- {kind}
fi
mkdir -p -- {hidden}
"""

# Verifies an upload by its checksums and makes it visible in one rename. All values are quoted; see `Remote.put`.
_COMMIT = """
set -eu
cd -- {hidden}
printf '%s\\n' {sums} | sha256sum --check --strict --quiet >&2
ln -f manifest.json .manifest.json
chmod -R g+rX .
cd ..
if test -e {name}; then exit {there_already}; fi
mv --no-target-directory -- {hidden_name} {name}
"""


class Place(Protocol):
    """Another store, wherever it is."""

    def catalogue(self) -> contextlib.AbstractContextManager[Store]:
        """Return a store with the manifests of this one; it need not have their files."""

    def fetch(self, ref: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Copy the files of an artifact to a folder; those that are there already, from an earlier try, stay."""


@dataclass(frozen=True)
class Folder:
    """A store on a file system of this machine."""

    store: Store

    def __str__(self) -> str:
        return str(self.store.root)

    @contextlib.contextmanager
    def catalogue(self) -> Iterator[Store]:
        """Return the store itself."""
        yield self.store

    def fetch(self, ref: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Copy the files of an artifact to a folder; those that are there already, from an earlier try, stay."""
        for name, entry in manifest["files"].items():
            source, target = self.store.path(ref) / name, folder / name
            if target.is_file() and target.stat().st_size == entry["bytes"] and sha256(target) == entry["sha256"]:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(source, target)


@dataclass(frozen=True)
class Remote:
    """A store on another machine, which rsync reaches over ssh."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"

    @contextlib.contextmanager
    def catalogue(self) -> Iterator[Store]:
        """Copy the manifests of the store to a temporary folder, and return that as a store."""
        with tempfile.TemporaryDirectory(prefix="spikedistill-") as folder:
            only = ("--exclude=.*", "--include=/*/", "--include=/*/*/", f"--include=/*/*/{MANIFEST}", "--exclude=*")
            self._rsync([*only, "--recursive", "--prune-empty-dirs"], f"{self}/", f"{folder}/")
            yield Store(folder)

    def fetch(self, ref: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Copy the files of an artifact to a folder; those that are there already, from an earlier try, stay."""
        self._rsync(["--partial", "--from0", "--files-from=-"], f"{self}/{ref}/", f"{folder}/", list(manifest["files"]))

    def put(self, store: Store, ref: str, manifest: Mapping[str, Any]) -> bool:
        """Copy an artifact there under a hidden name, have it verified there, and make it visible in one rename.

        Returns:
            False if somebody else has made it there in the meantime.

        Raises:
            ArtifactError: if that fails, with what the other machine says.
        """
        kind, _, name = ref.partition("/")
        hidden_name = f".{name}.{manifest['digest'][:8]}.tmp"
        hidden = f"{self.path}/{kind}/{hidden_name}"
        folders = {"store": self.path, "kind": f"{self.path}/{kind}", "hidden": hidden}
        self._shell(_MAKE.format(**{name: shlex.quote(folder) for name, folder in folders.items()}))
        names = [MANIFEST, *manifest["files"]]
        self._rsync(["--partial", "--from0", "--files-from=-"], f"{store.path(ref)}/", f"{self.host}:{hidden}/", names)
        sums = [f"{entry['sha256']}  {file}" for file, entry in manifest["files"].items()]
        values = {
            "hidden": shlex.quote(hidden),
            "hidden_name": shlex.quote(hidden_name),
            "name": shlex.quote(name),
            "sums": shlex.join(sums),
        }
        return self._shell(_COMMIT.format(there_already=_THERE_ALREADY, **values), allowed=(0, _THERE_ALREADY)) == 0

    def _rsync(self, options: Sequence[str], source: str, target: str, names: Sequence[str] = ()) -> None:
        listing = "".join(f"{name}\0" for name in names)
        status, errors = _call([*_RSYNC, *options, "--", source, target], listing)
        if status:
            raise ArtifactError(f"rsync from {source} to {target} failed with status {status}: {errors}")

    def _shell(self, script: str, allowed: Sequence[int] = (0,)) -> int:
        """Run a script on the other machine: it goes to the standard input of `sh`, so that no other shell reads it."""
        status, errors = _call(["ssh", "--", self.host, "sh -s"], script)
        if status not in allowed:
            raise ArtifactError(f"{self}: failed with status {status}: {errors}")
        return status


def open_place(text: str) -> Folder | Remote:
    """Return the other store that SOURCE or TARGET of the command line names: a folder, or `host:path`.

    Raises:
        ArtifactError: if it is neither.
    """
    if ":" in text.partition("/")[0]:
        found = _REMOTE.fullmatch(text)
        if not found or found["path"].startswith((":", "//")) or "\0" in text or "\n" in text:
            raise ArtifactError(
                f"{text!r} is no store: expected a folder, or host:path for rsync over ssh; ./ for a folder with a :"
            )
        path = found["path"].removeprefix("~/")
        return Remote(found["host"], path.rstrip("/") or ("/" if path else "."))
    store = Store(text)
    if not store.root.is_dir():
        raise ArtifactError(f"{text}: no such folder; name the folder of a store, or host:path for one on another machine")
    return Folder(store)


def pull(source: Place, store: Store, names: Sequence[str]) -> Iterator[str]:
    """Copy artifacts from another store, upstream first; yield a line about each.

    Args:
        source: the other store.
        store: this store.
        names: artifacts, unambiguous beginnings of names, or patterns.

    Raises:
        ArtifactError: if one is not there, is damaged, or cannot be used here. What was yielded before is here and whole.
    """
    store.check()
    with source.catalogue() as catalogue:
        wanted = _select(catalogue, store, names, str(source))
        _check_space(store, wanted)
        texts = {ref: catalogue.manifest_path(ref).read_text(encoding="utf-8") for ref in wanted}
        for ref, manifest in wanted.items():
            if store.digest(ref) == manifest["digest"]:
                yield f"there already  {ref}"
            elif _pull_one(source, store, ref, manifest, texts[ref]):
                yield f"copied  {ref}  {format_size(_size(manifest))}"
            else:
                yield f"made here meanwhile  {ref}"
        for ref, manifest in wanted.items():  # by `prune`, to which nothing needed it until what was made from it was here
            if store.status(ref) == "missing" and _pull_one(source, store, ref, manifest, texts[ref]):
                yield f"copied, as it was removed meanwhile  {ref}  {format_size(_size(manifest))}"


def push(target: Folder | Remote, store: Store, names: Sequence[str]) -> Iterator[str]:
    """Copy artifacts to another store, upstream first; yield a line about each. See `pull`."""
    if isinstance(target, Folder):
        yield from pull(Folder(store), target.store, names)
        return
    with target.catalogue() as there:
        for ref, manifest in _select(store, there, names, str(store.root)).items():
            if there.digest(ref) == manifest["digest"]:
                yield f"there already  {ref}"
                continue
            damage = store.verify(ref)
            if damage:
                raise ArtifactError(f"damaged artifact, not copied: {damage}")
            done = target.put(store, ref, manifest)
            yield f"copied  {ref}  {format_size(_size(manifest))}" if done else f"made there meanwhile  {ref}"


def _pull_one(source: Place, store: Store, ref: str, manifest: Mapping[str, Any], text: str) -> bool:
    work = store.work(ref)
    folder = work / "transfer"
    with held(lease_path(work), owner_name(), lambda: store.digest(ref) is not None) as lease:
        if lease is None or store.digest(ref) is not None:
            return False
        write_text(work / TRANSFER, json.dumps({"upstream": list(manifest["upstream"])}) + "\n")
        folder.mkdir(exist_ok=True)
        _remove_surplus(folder, manifest)
        source.fetch(ref, manifest, folder)
        _adopt(source, store, ref, folder, text, lease.check)
        (work / TRANSFER).unlink()
    leave_work(work)
    return True


def _adopt(source: Place, store: Store, ref: str, folder: Path, text: str, fence: Callable[[], None]) -> None:
    try:
        store.adopt(ref, folder, text, fence)
    except ArtifactError as err:
        shutil.rmtree(folder, ignore_errors=True)  # else the next try would start from what is wrong
        raise ArtifactError(
            f"damaged artifact in {source}, not copied: {err}; run `spikedistill verify` there, or copy it from elsewhere"
        ) from err


def _select(source: Store, target: Store, names: Sequence[str], place: str) -> dict[str, dict[str, Any]]:
    """Return the manifests of some artifacts of a store and of all that they were made from, upstream first.

    Raises:
        ArtifactError: if one is missing, or would not fit what the target has.
    """
    wanted: dict[str, dict[str, Any]] = {}
    try:
        refs = source.select(names)
    except ArtifactError as err:
        raise ArtifactError(str(err).replace(str(source.root), place)) from err  # it may be a catalogue in a temporary folder
    for ref in refs:
        _add(ref, source, target, wanted, (), place)
    for ref, manifest in wanted.items():
        there = target.status(ref)
        if there == "unreadable" or (there == "complete" and target.digest(ref) != manifest["digest"]):
            raise ArtifactError(
                f"{ref}: the target has another one of this name than {place}, made by another run or damaged, and an "
                "artifact is never replaced: remove one of the two (`spikedistill verify --set-aside` does, if it is damaged)"
            )
    return wanted


def _add(ref: str, source: Store, target: Store, wanted: dict[str, dict[str, Any]], below: tuple[str, ...], place: str) -> None:
    """Add an artifact after what it was made from; `below` was made from it."""
    if ref in wanted:
        return
    if ref in below:
        raise ArtifactError(f"{ref} in {place} was made from itself, by its manifest, which is damaged; not copied")
    manifest = source.manifest(ref)
    _check_names(ref, manifest, place)
    for upstream, digest in manifest["upstream"].items():
        if _REF.fullmatch(upstream) and target.digest(upstream) == digest and source.status(upstream) == "missing":
            continue
        _check_names(upstream, {"files": {}}, place)
        if source.status(upstream) == "missing":
            raise ArtifactError(f"{ref} in {place} was made from {upstream}, which is in neither store: copy that one first")
        if source.digest(upstream) != digest:
            raise ArtifactError(
                f"{ref} in {place} was made from another {upstream} than the one there, so no stage would use it; not copied"
            )
        _add(upstream, source, target, wanted, (*below, ref), place)
    wanted[ref] = manifest


def _check_names(ref: str, manifest: Mapping[str, Any], place: str) -> None:
    """Check that a manifest of another store names nothing outside of its own folder."""
    try:
        files = dict(manifest["files"])
        wrong = [name for name, entry in files.items() if not _is_plain(name) or not isinstance(entry["bytes"], int)]
    except (KeyError, TypeError, ValueError):
        wrong = [MANIFEST]
    if not _REF.fullmatch(ref) or wrong:
        what = f"the file {wrong[0]!r}" if wrong else "its name"
        raise ArtifactError(f"{ref!r} in {place}: {what} is not as spikedistill makes them; not copied")


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        name == str(path)
        and not path.is_absolute()
        and not any(part.startswith(".") for part in path.parts)
        and name not in ("", MANIFEST)
        and name.isprintable()
        and "\\" not in name
    )


def _check_space(store: Store, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    needed = sum(_size(manifest) for ref, manifest in wanted.items() if store.digest(ref) is None)
    existing = next(folder for folder in (store.root.absolute(), *store.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        sizes = f"{format_size(needed)} are needed, {format_size(free)} are free"
        raise ArtifactError(f"store {store.root}: {sizes}; free some, then run again")


def _size(manifest: Mapping[str, Any]) -> int:
    return sum(entry["bytes"] for entry in manifest["files"].values())


def _remove_surplus(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove what an earlier try, of another run's artifact or just before its commit, left in a folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink() or (path.is_file() and str(path.relative_to(folder)) not in manifest["files"]):
            path.unlink()


def _copy_file(source: Path, target: Path) -> None:
    """Copy a regular file; a link, a pipe or a device in an artifact is damage."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return  # `Store.adopt` names all that is missing
    except OSError as err:
        raise ArtifactError(f"{source}: not copied: {err.strerror or err}") from err
    with open(descriptor, "rb") as stream:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtifactError(f"{source}: not copied: it is no regular file")
        with target.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 2**20)


def _call(command: Sequence[str], text: str) -> tuple[int, str]:
    """Run a program on some input; return its status and the end of what it says.

    Raises:
        ArtifactError: if there is no such program.
    """
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace")
    except FileNotFoundError as err:
        raise ArtifactError(
            f"{command[0]} is not on this machine, and copies artifacts to and from other machines: install it "
            f"(apt install {'openssh-client' if command[0] == 'ssh' else command[0]}), or mount the other store as a folder"
        ) from err
    return done.returncode, " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:]) or "it says nothing"
