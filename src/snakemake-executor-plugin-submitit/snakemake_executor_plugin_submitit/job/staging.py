"""Stage-in: copies of files and folders on a node's own disk, shared by ranks and by later jobs of the same user.

    <base>/<key>/<name>     a copy; the key is a hash of the original's path and of the size, mtime and execute bit of each file
    <base>/<key>.json       its size and checksums; the file's mtime is the time of the last use
    <base>/<key>.lock       locked exclusively while the copy is made or removed, and shared while a job uses it
    <base>/links/<job>/…    what a job reads: links to copies, with the same paths on all nodes of the job
    <base>/links/<job>/.lock    locked while the job runs

A copy is made under a temporary name, checked against what was read, and renamed; an interrupted one is removed by the next job.
A changed original has a different key. The folders are 0700, and one that others could write to is not used.
"""

import atexit
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import stat
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.jsonfile import read_json, write_json
from snakemake_executor_plugin_submitit.private import FILE_MODE, FOLDER_MODE, is_open_to_others, make_folder

LINKS, HELD = "links", ".lock"
CHUNK = 8 << 20
PATIENCE_S = 10.0  # how long to wait for others that use an incomplete copy
SPARE_SHARE = 0.1  # of the disk, which stays free
KEY_LENGTH = 24
UNUSED_S = 7 * 86_400.0  # after that a copy is removed when another one is made


class NoRoomError(OSError):
    """The disk has too little space, even without the copies that nobody uses."""


class ChangedError(OSError):
    """The original changed while it was being copied."""


def node_folder(setting: str | None) -> Path:
    """Return the folder of copies on this node: inside the given one, with variables expanded, or a temporary one."""
    given = setting or os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir()
    return Path(os.path.expandvars(given)) / f"submitit-stage-{os.geteuid()}"


@dataclass
class Copies:
    """The copies on this node; those that were fetched stay until `close`, or the end of the process."""

    base: Path
    most_gb: int | None = None
    """Limit for all copies together; None: as much as the disk holds."""
    _locks: list[int] = field(default_factory=list)
    _jobs: set[str] = field(default_factory=set)  # whose links are held

    def link(self, job: str, name: str, original: Path) -> tuple[Path, str]:
        """Make a link, for a job, to a copy of a file or folder; or to the original if it cannot be copied.

        Args:
            job: a name that no other job of this user has at this time.
            name: name of the link, unique in the job.
            original: what to copy.

        Returns:
            The path of the link, which has the original's own name; and why it leads to the original, empty if to a copy.

        Raises:
            OSError: if the link cannot be made either.
        """
        original, folder = _with_name(original), self.base / LINKS / job
        self._check_base()
        make_folder(folder)
        self._hold_links(job)
        target, why = original, ""
        try:
            target = self.fetch(original)
        except OSError as err:
            why = f"{err.strerror or err}"
        place = folder / name
        make_folder(place)
        link = place / original.name
        with contextlib.suppress(FileExistsError):  # another rank of this node was faster
            link.symlink_to(target)
        return link, why

    def _hold_links(self, job: str) -> None:
        """Keep the links of a job from being taken for those of a killed one, until `close`."""
        if job not in self._jobs:
            self._locks.append(_locked(self.base / LINKS / job / HELD, fcntl.LOCK_SH))
            self._jobs.add(job)

    def _check_base(self) -> None:
        make_folder(self.base)
        if is_open_to_others(self.base):
            raise PermissionError(errno.EPERM, "others may write there", str(self.base))

    def fetch(self, original: Path) -> Path:
        """Return a copy of a file or folder, making it if there is none; it is not removed before `close`.

        Raises:
            NoRoomError: if the disk has too little space.
            ChangedError: if the original changes meanwhile.
            OSError: if it cannot be read, or the copy cannot be written.
        """
        original, deadline = _with_name(original), time.monotonic() + PATIENCE_S
        while True:
            try:
                copy = self._fetch_unless_busy(original)
                if copy is not None:
                    return copy
            except BlockingIOError:  # others are about to make it too, or use a damaged copy
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "a damaged copy of it is in use", str(original)) from None
                time.sleep(random.uniform(0.05, 0.3))

    def _fetch_unless_busy(self, original: Path) -> Path | None:
        """Return a copy, locked; None if another job has removed it meanwhile.

        Raises:
            BlockingIOError: if it has to be made, and others hold the lock.
        """
        files = _files(original)
        key = _key(original, files)
        path, copy = self.base / f"{key}.lock", self.base / key / original.name
        lock = _locked(path, fcntl.LOCK_SH)  # waits while a copy is made
        try:
            if not self._is_whole(key, copy, files):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._is_whole(key, copy, files):
                    self._make(key, copy, original, files)
                fcntl.flock(lock, fcntl.LOCK_SH)  # not in one step: another job may have removed it in between
            if not self._is_whole(key, copy, files) or not _is_at(lock, path):
                return None
            os.utime(self._about(key))
            self._locks.append(lock)
            return copy
        finally:
            if lock not in self._locks:
                os.close(lock)

    def close(self) -> None:
        """Release the copies and links, which may then be removed."""
        self._jobs.clear()
        while self._locks:
            os.close(self._locks.pop())

    def _about(self, key: str) -> Path:
        return self.base / f"{key}.json"

    def _is_whole(self, key: str, copy: Path, files: dict[str, os.stat_result]) -> bool:
        about = read_json(self._about(key))
        if about is None:
            return False
        try:
            sizes = {name: _size(_at(copy, name).stat()) for name in files}
        except OSError:
            return False
        return sizes == {name: _size(found) for name, found in files.items()}

    def _make(self, key: str, copy: Path, original: Path, files: dict[str, os.stat_result]) -> None:
        partial, size = self.base / f".{key}.partial", sum(map(_size, files.values()))
        self._remove(key)
        self._make_room(size)
        partial.mkdir(mode=FOLDER_MODE)
        try:
            checksums = {}
            for name, found in files.items():
                if stat.S_ISDIR(found.st_mode):
                    _at(partial / original.name, name).mkdir(mode=FOLDER_MODE)
                else:
                    checksums[name] = _copy(_at(original, name), _at(partial / original.name, name))
            for name, checksum in checksums.items():
                if _checksum(_at(partial / original.name, name)) != checksum:
                    raise OSError(errno.EIO, "the copy is not what was written", str(copy))
            if _key(original, _files(original)) != key:
                raise ChangedError(errno.ESTALE, "it was changed while it was copied", str(original))
            partial.rename(copy.parent)
            write_json(self._about(key), {"original": str(original), "bytes": size, "crc32": checksums})
            print(f"stage_in: {original}: {size / 1e9:.3g} GB copied to {self.base}", flush=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _make_room(self, size: int) -> None:
        """Remove copies unused for a long time, then the least recently used, until there is enough space."""
        entries = sorted(self.base.glob("*.json"), key=_mtime)
        for about in entries:
            is_old = time.time() - _mtime(about) > UNUSED_S
            if is_old or not self._has_room(size):
                self._remove_unused(about.stem)
        for links in (self.base / LINKS).glob("*"):  # of jobs that were killed
            if time.time() - _mtime(links) > UNUSED_S:
                self._remove_links(links)
        for partial in self.base.glob(".*.partial"):
            self._remove_unused(partial.name.split(".")[1])
        for copy in self.base.glob("?" * KEY_LENGTH):  # of jobs that were killed before they wrote its .json file
            if copy.is_dir() and not self._about(copy.name).exists():
                self._remove_unused(copy.name)
        if not self._has_room(size):
            limit = "" if self.most_gb is None else f"; copies may have {self.most_gb} GB there (--submitit-stage-in-gb)"
            raise NoRoomError(errno.ENOSPC, f"{self.base} has too little space for {size / 1e9:.3g} GB more{limit}")

    def _has_room(self, size: int) -> bool:
        usage = shutil.disk_usage(self.base)
        if usage.free - size < SPARE_SHARE * usage.total:
            return False
        return self.most_gb is None or self._used() + size <= self.most_gb * 10**9

    def _used(self) -> int:
        return sum(int((read_json(about) or {}).get("bytes", 0)) for about in self.base.glob("*.json"))

    def _remove_unused(self, key: str) -> None:
        with contextlib.suppress(BlockingIOError):
            lock = _locked(self.base / f"{key}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                self._remove(key)
                (self.base / f"{key}.lock").unlink(missing_ok=True)
            finally:
                os.close(lock)

    def _remove_links(self, links: Path) -> None:
        with contextlib.suppress(OSError):  # the job holds them, or has just removed them
            lock = _locked(links / HELD, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                shutil.rmtree(links, ignore_errors=True)
            finally:
                os.close(lock)

    def _remove(self, key: str) -> None:
        self._about(key).unlink(missing_ok=True)
        for folder in (self.base / key, self.base / f".{key}.partial"):
            shutil.rmtree(folder, ignore_errors=True)

    def forget_job(self, job: str) -> None:
        """Remove the links of a job."""
        shutil.rmtree(self.base / LINKS / job, ignore_errors=True)


def _files(original: Path) -> dict[str, os.stat_result]:
    """Return a file or folder by an empty path, and what is in the folder by relative paths, each folder before its content.

    Raises:
        OSError: if a copy would not be the same: something cannot be read, is no file or folder, or leads to where it is.
    """
    return dict(_walk(original, "", ()))


def _walk(path: Path, name: str, above: tuple[os.stat_result, ...]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if above:  # a link to nothing
            return
        raise
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EINVAL, f"{path} is neither a file nor a folder", str(path))
    if any(os.path.samestat(found, each) for each in above):
        raise OSError(errno.ELOOP, f"{path} leads back to a folder that it is in", str(path))
    yield name, found
    if stat.S_ISDIR(found.st_mode):
        for child in sorted(path.iterdir()):
            yield from _walk(child, str(Path(name, child.name)), (*above, found))


def _size(found: os.stat_result) -> int:
    return 0 if stat.S_ISDIR(found.st_mode) else found.st_size


def _with_name(path: Path) -> Path:
    """Return an absolute path that ends in a name, unlike `.` and `..`."""
    return path.absolute() if path.name not in ("", "..") else path.resolve()


def _at(folder: Path, name: str) -> Path:
    return folder / name if name else folder


def _key(original: Path, files: dict[str, os.stat_result]) -> str:
    facts = [str(original.resolve()), *((name, *_facts(found)) for name, found in files.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:KEY_LENGTH]


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return () if stat.S_ISDIR(found.st_mode) else (found.st_size, found.st_mtime_ns, found.st_mode & stat.S_IXUSR)


def _copy(source: Path, target: Path) -> int:
    """Copy a file durably; return the checksum of what was read."""
    checksum = 0
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        os.fchmod(writer.fileno(), FILE_MODE | os.fstat(reader.fileno()).st_mode & stat.S_IXUSR)
        while chunk := reader.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
            rest = memoryview(chunk)
            while rest:
                rest = rest[writer.write(rest) :]
        os.fsync(writer.fileno())
        os.posix_fadvise(writer.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that the check reads the disk
    return checksum


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as reader:
        while chunk := reader.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _locked(path: Path, how: int) -> int:
    """Return a locked descriptor of the lock file at this path; try again if the file was removed meanwhile.

    Raises:
        BlockingIOError: if it is locked by others, and `how` says not to wait.
        OSError: if it cannot be created.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(lock, how)
            if _is_at(lock, path):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


STAGED = "SUBMITIT_STAGED"
"""Variable with what a job has staged, in JSON: base folder, limit in GB, name of the job, originals by the names of links."""


def stage(originals: dict[str, Path], folder: str | None, most_gb: int | None = None) -> Iterator[tuple[str, Path, str]]:
    """Stage a job's inputs on its first node, and record them in the environment for its other nodes.

    Args:
        originals: files and folders by names of the caller's choice.
        folder: where copies are kept; None: see `node_folder`.
        most_gb: limit for all copies on a node; None: as much as its disk holds.

    Yields:
        The name, the path to read, and why that is the original; empty if it is a copy.
    """
    copies, job = Copies(node_folder(folder), most_gb), uuid.uuid4().hex
    atexit.register(copies.forget_job, job)
    linked = {}
    for name, original in originals.items():
        try:
            _check_is_not_around_us(original)
            link, why = copies.link(job, name, original)
            linked[name] = str(original.absolute())
        except OSError as err:
            link, why = original, err.strerror or str(err)
        yield name, link, why
    os.environ[STAGED] = json.dumps({"base": str(copies.base), "most_gb": most_gb, "job": job, "originals": linked})


def _check_is_not_around_us(original: Path) -> None:
    """Refuse the working directory, with Snakemake's own files and the outputs, and what it is in."""
    if original.is_dir() and Path.cwd().is_relative_to(original.resolve()):
        raise OSError(
            errno.EINVAL, "the working directory is not copied, nor what it is in; move the input to a subfolder", str(original)
        )


def stage_on_this_node(variables: Mapping[str, str]) -> Iterator[str]:
    """On another rank, make the job's links unless its node has them; yield a line for each input that cannot be copied.

    Args:
        variables: the environment of the job's first rank.

    Raises:
        OSError: if the links cannot be made: the job's command would not find its files.
    """
    staged: dict[str, Any] = json.loads(variables.get(STAGED, "{}"))
    if staged:
        copies = Copies(Path(staged["base"]), staged["most_gb"])
        atexit.register(copies.forget_job, staged["job"])
        for name, original in staged["originals"].items():
            _, why = copies.link(staged["job"], name, Path(original))
            if why:
                yield f"{original} is read from where it is: {why}"
