"""The user's files as downloaded: found, checked, read in place, never changed. Standard library only.

A file inside a zip archive is read straight from it, so that nothing is unpacked to disk; its checksum in the archive is
compared. Archives are compared with their published md5.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spikedistill.data.formats.isal_zlib import crc32, inflate
from spikedistill.errors import DataError
from spikedistill.store import lease

log = logging.getLogger(__name__)

_LOCAL_HEADER = 30
_TIMEOUT_S = 60
_ATTEMPTS = 3
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file, on its own or in a zip archive.

    Attributes:
        path: the file, or the archive.
        name: its name in the archive; empty for a file on its own.
        offset: where its entry in the archive begins.
        packed: bytes that it takes in the archive.
        size: its bytes, -1 for a file on its own.
        crc32: its checksum in the archive.
        method: how it is packed, as the zip format numbers it.
    """

    path: str
    name: str = ""
    offset: int = 0
    packed: int = 0
    size: int = -1
    crc32: int = 0
    method: int = zipfile.ZIP_STORED

    def __str__(self) -> str:
        return f"{self.path}/{self.name}" if self.name else self.path

    def read(self) -> bytes:
        """The whole content.

        Raises:
            DataError: if it cannot be read, or is not what the archive says it is.
        """
        try:
            with open(self.path, "rb", buffering=0) as stream:  # noqa: PTH123 - half the time of Path.open
                if not self.name:
                    return stream.read()
                header = os.pread(stream.fileno(), _LOCAL_HEADER, self.offset)
                start = self.offset + _LOCAL_HEADER + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
                packed = os.pread(stream.fileno(), self.packed, start)
        except OSError as err:
            raise DataError(f"{self}: {err.strerror or err}") from err
        return self._unpacked(packed)

    def _unpacked(self, packed: bytes) -> bytes:
        try:
            content = packed if self.method == zipfile.ZIP_STORED else inflate(packed)
        except zlib.error as err:
            raise DataError(f"{self}: damaged in its archive ({err}); get the archive again") from err
        if len(content) != self.size or crc32(content) != self.crc32:
            raise DataError(f"{self}: differs from its checksum in the archive; get the archive again")
        return content


def zip_members(archive: Path) -> list[Member]:
    """The files in a zip archive, in its order.

    Raises:
        DataError: if it cannot be read, or is packed in a way that cannot be read here.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    except (OSError, zipfile.BadZipFile) as err:
        raise DataError(f"{archive}: not a readable zip archive ({err}); get it again") from err
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise DataError(
                f"{archive}: {entry.filename} is encrypted or packed by method {entry.compress_type}; unpack it yourself"
            )
    path = str(archive)
    return [Member(path, e.filename, e.header_offset, e.compress_size, e.file_size, e.CRC, e.compress_type) for e in entries]


def files_below(folder: Path) -> list[Member]:
    """The files below a folder, by name; links are followed."""
    return [Member(path) for path in sorted(_walk(str(folder)))]


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path)
            elif entry.is_file():
                yield entry.path


def is_clutter(name: str) -> bool:
    """Whether a file is one that a file manager or an archiver leaves behind."""
    *folders, file = name.split("/")
    return file.startswith(".") or "__MACOSX" in folders or file.lower() in ("thumbs.db", "desktop.ini")


def unpack_tar(archive: Path, target: Path) -> None:
    """Unpack a tar archive; files that would land elsewhere are refused.

    Raises:
        DataError: if it is damaged, or the disk is full.
    """
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise DataError(f"{archive}: not a readable tar archive ({err}); get it again") from err
    except OSError as err:
        raise DataError(f"{archive}: cannot be unpacked to {target}: {err.strerror or err}") from err


def read_tar(archive: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """The files of some names in a tar archive, in whatever folder of it; those that it has.

    Raises:
        DataError: if it cannot be read.
    """
    contents = {}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                name = PurePosixPath(member.name).name
                stream = opened.extractfile(member) if member.isfile() and name in wanted else None
                if stream is not None:
                    contents[name] = stream.read()
    except (OSError, tarfile.TarError, EOFError, zlib.error) as err:
        raise DataError(f"{archive}: not a readable tar archive ({err}); get it again") from err
    return contents


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError if the disk has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(f"{folder}: {needed / 1e9:.1f} GB needed for the {what}, {free / 1e9:.1f} GB free")


def check_md5(files: dict[Path, str]) -> None:
    """Compare files with their published md5; the files stay as they are.

    Args:
        files: expected md5 in hex by file.

    Raises:
        DataError: naming every file that differs, with both sums.
    """
    if wrong := wrong_md5(files):
        raise DataError(
            f"{len(wrong)} of {len(files)} archives are not as published (set strict: false to use them all the same):\n  "
            + "\n  ".join(wrong)
        )


def wrong_md5(files: dict[Path, str]) -> list[str]:
    """A line for each file that differs from its published md5, with both sums."""
    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1) or 1) as pool:
        found = list(pool.map(_md5, files))
    sums = dict(zip(files, found, strict=True))
    return [f"{path}: md5 {sums[path]}, expected {expected}" for path, expected in files.items() if sums[path] != expected]


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def is_empty_but_for(folder: Path, name: str) -> bool:
    """Whether a folder holds nothing, or nothing but an entry called `name`."""
    return all(entry.name == name for entry in folder.iterdir())


def download(sources: Sequence[tuple[str, str, str]], folder: Path) -> None:
    """Download what is not there yet; a broken download goes on where it stopped. Of several that start, one downloads.

    Args:
        sources: (file name, address, md5) of each file.
        folder: where to; created. A file appears there under its name when it is whole.

    Raises:
        DataError: if the network or the disk does not play along, or a file is not as published.
    """
    folder.mkdir(exist_ok=True)
    with lease.held(folder / ".downloading", str(os.getpid()), lambda: all((folder / name).exists() for name, _, _ in sources)):
        for name, url, md5 in sources:
            if not (folder / name).exists():
                _download_one(url, folder / name, md5)


def _download_one(url: str, target: Path, md5: str) -> None:
    part = target.with_name(f"{target.name}.part")
    log.info("downloading %s to %s", url, target)
    _fetch(url, part)
    found, size = _md5(part), part.stat().st_size
    if found != md5:
        part.unlink()
        raise DataError(
            f"{url}: {size} bytes with md5 {found}, expected {md5}; thrown away. Start again, or get it with a browser and put "
            f"it into {target.parent}"
        )
    part.rename(target)


def _fetch(url: str, part: Path) -> None:
    import urllib.error  # here, for the sake of every process that only decodes

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch_once(url, part)
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as err:
            if isinstance(err, urllib.error.HTTPError) and err.code == 416:  # nothing beyond what is there
                return
            if attempt == _ATTEMPTS or (isinstance(err, urllib.error.HTTPError) and err.code < 500):
                advice = f"get it on a machine with a network and put it into {part.parent}"
                raise DataError(f"{url}: cannot be downloaded ({err}); {advice}") from err
            log.warning("%s: %s; trying again", url, err)
            time.sleep(attempt)


def _fetch_once(url: str, part: Path) -> None:
    import urllib.request

    there = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "Mozilla/5.0 (spikedistill)"} | ({"Range": f"bytes={there}-"} if there else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as response:
        continued = response.status == 206
        with part.open("ab" if continued else "wb") as stream:
            shutil.copyfileobj(response, stream, _BLOCK)
