"""Downloaded files and archives: downloaded, checked and read in place, never changed. Standard library only.

Files inside a zip archive are read straight from it, without unpacking to disk, and compared with their checksums in the archive.
Archives are compared with their published md5.
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
        path: path of the file, or of the archive.
        name: name in the archive; empty for a file on its own.
        offset: of its entry in the archive, in bytes.
        packed: compressed size in bytes.
        size: uncompressed size in bytes; -1 for a file on its own.
        crc32: checksum in the archive.
        method: compression method, a number of the zip format.
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
        """Return the content.

        Raises:
            DataError: if it cannot be read, or differs from its size or checksum in the archive.
        """
        try:
            with open(self.path, "rb", buffering=0) as stream:  # noqa: PTH123 - twice as fast as Path.open
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
    """Return the files in a zip archive, in its order.

    Raises:
        DataError: if the archive cannot be read, is encrypted, or uses another compression method than deflate.
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
    """Return the files below a folder, sorted by path; links are followed."""
    return [Member(path) for path in sorted(_walk(str(folder)))]


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path)
            elif entry.is_file():
                yield entry.path


def is_clutter(name: str) -> bool:
    """Return whether a file is one that file managers or archivers leave behind."""
    *folders, file = name.split("/")
    return file.startswith(".") or "__MACOSX" in folders or file.lower() in ("thumbs.db", "desktop.ini")


def unpack_tar(archive: Path, target: Path) -> None:
    """Unpack a tar archive; refuse files that would land outside `target`.

    Raises:
        DataError: if the archive is damaged, or the disk is full.
    """
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise DataError(f"{archive}: not a readable tar archive ({err}); get it again") from err
    except OSError as err:
        raise DataError(f"{archive}: cannot be unpacked to {target}: {err.strerror or err}") from err


def read_tar(archive: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Return the contents of the wanted files that a tar archive has, by file name without folder.

    Raises:
        DataError: if the archive cannot be read.
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
    """Raise a DataError if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(f"{folder}: {needed / 1e9:.1f} GB needed for the {what}, {free / 1e9:.1f} GB free")


def check_md5(files: dict[Path, str]) -> None:
    """Compare archives with their published md5.

    Args:
        files: expected md5, in hexadecimal, by file.

    Raises:
        DataError: naming every file that differs, with both md5.
    """
    if wrong := wrong_md5(files):
        raise DataError(
            f"{len(wrong)} of {len(files)} archives are not as published (set strict: false to use them anyway):\n  "
            + "\n  ".join(wrong)
        )


def wrong_md5(files: dict[Path, str]) -> list[str]:
    """Return a line for each file that differs from its published md5, with both md5."""
    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1) or 1) as pool:
        found = list(pool.map(_md5, files))
    sums = dict(zip(files, found, strict=True))
    return [f"{path}: md5 {sums[path]}, expected {expected}" for path, expected in files.items() if sums[path] != expected]


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def is_empty_but_for(folder: Path, name: str) -> bool:
    """Return whether a folder contains nothing, or nothing but an entry called `name`."""
    return all(entry.name == name for entry in folder.iterdir())


def download(sources: Sequence[tuple[str, str, str]], folder: Path) -> None:
    """Download missing files. Interrupted downloads are resumed; of several processes, one downloads and the others wait.

    Args:
        sources: (file name, URL, md5) of each file.
        folder: target folder, created if missing. A file gets its name there when it is complete.

    Raises:
        DataError: on a network or disk error, or if an md5 differs.
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
            f"{url}: {size} bytes with md5 {found}, expected {md5}; deleted. Start again, or download it with a browser to "
            f"{target.parent}"
        )
    part.rename(target)


def _fetch(url: str, part: Path) -> None:
    import urllib.error  # imported late, because processes that only decode do not need it

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch_once(url, part)
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as err:
            if isinstance(err, urllib.error.HTTPError) and err.code == 416:  # range not satisfiable: the file is complete
                return
            if attempt == _ATTEMPTS or (isinstance(err, urllib.error.HTTPError) and err.code < 500):
                advice = f"download it on a machine with internet access and put it into {part.parent}"
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
