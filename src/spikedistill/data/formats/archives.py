"""Downloaded files and archives: downloaded, checked and read in place, never changed. Standard library only.

Files inside a zip archive are read straight from it, without unpacking to disk, and compared with their checksums in the archive.
Archives are compared with their published md5. A decompression bomb is an error: no more is unpacked than an archive declares for
its members, and no more than a member of its kind can have.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import logging
import lzma
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from spikedistill.data.formats.files import check_free_space, in_units, is_disk_full, read_file, reason
from spikedistill.data.formats.isal_zlib import crc32, inflate
from spikedistill.errors import DataError
from spikedistill.store import lease

log = logging.getLogger(__name__)

_LOCAL_HEADER = 30
_TIMEOUT_S = 60
_ATTEMPTS = 3
_BLOCK = 1 << 20
_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_TAR_TO_FILE = 16  # largest ratio of an unpacked tar archive to the limit of the files wanted in it
_MAX_REST = 1 << 30  # bytes of a tar archive after its last member
_MAX_RATIO = 1100  # of deflate: 258 bytes from 2 bits

MAX_RECORDING_BYTES = 256 << 20  # of a file that is read whole; the largest published ones have 3 MB
MAX_UNPACKED_BYTES = 64 << 30  # of all members of a tar archive that is unpacked; those of DVS128 Gesture have 5 GB


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
            DataError: if it cannot be read, is larger than any recording, or differs from its size or checksum in the archive.
        """
        if not self.name:
            return read_file(self.path, limit=MAX_RECORDING_BYTES)
        try:
            with open(self.path, "rb", buffering=0) as stream:  # noqa: PTH123 - twice as fast as Path.open
                header = os.pread(stream.fileno(), _LOCAL_HEADER, self.offset)
                start = self.offset + _LOCAL_HEADER + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
                packed = os.pread(stream.fileno(), self.packed, start)
        except OSError as err:
            raise DataError(f"{self}: {reason(err)}") from err
        return self._unpacked(packed)

    def _unpacked(self, packed: bytes) -> bytes:
        try:
            content = packed if self.method == zipfile.ZIP_STORED else inflate(packed, self.size)
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
    except OSError as err:
        raise DataError(f"{archive}: {reason(err)}") from err
    except Exception as err:  # a damaged directory can make the reader raise anything
        raise DataError(f"{archive}: not a readable zip archive ({err or type(err).__name__}); get it again") from err
    path, size = str(archive), archive.stat().st_size
    return [_zip_member(path, size, entry) for entry in entries]


def _zip_member(archive: str, archive_size: int, entry: zipfile.ZipInfo) -> Member:
    place = f"{archive}/{entry.filename}"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise DataError(f"{place}: encrypted or packed by method {entry.compress_type}; unpack it yourself")
    if not 0 <= entry.header_offset <= entry.header_offset + entry.compress_size <= archive_size:
        raise DataError(f"{place}: lies beyond the end of the archive; get the archive again")
    if entry.file_size > MAX_RECORDING_BYTES or entry.file_size > _MAX_RATIO * (entry.compress_size + 1):
        raise DataError(
            f"{place}: {in_units(entry.file_size)} packed into {in_units(entry.compress_size)}; a recording has at most "
            f"{in_units(MAX_RECORDING_BYTES)}; damaged or made to fill the memory: get the archive again"
        )
    packed, method = entry.compress_size, entry.compress_type
    return Member(archive, entry.filename, entry.header_offset, packed, entry.file_size, entry.CRC, method)


def files_below(folder: Path) -> list[Member]:
    """Return the files below a folder, sorted by path; links are followed.

    Raises:
        DataError: if a folder cannot be read, or a link leads back to a folder that it lies in.
    """
    try:
        return [Member(path) for path in sorted(_walk(str(folder), ()))]
    except OSError as err:
        raise DataError(f"{err.filename or folder}: {reason(err)}") from err


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    found = os.stat(folder)  # noqa: PTH116 - of a string, as os.scandir gives it
    here = found.st_dev, found.st_ino
    if here in above:
        raise DataError(f"{folder}: a symbolic link leads back to a folder that it lies in; remove the link")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path, (*above, here))
            elif entry.is_file() or entry.is_symlink():  # whoever reads a link to nothing names it
                yield entry.path


def is_clutter(name: str) -> bool:
    """Return whether a file is one that file managers or archivers leave behind."""
    *folders, file = name.split("/")
    return file.startswith(".") or "__MACOSX" in folders or file.lower() in ("thumbs.db", "desktop.ini")


class BoundedStream:
    """A stream that refuses large reads, for the reader of tar archives, which trusts the sizes in damaged headers."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes.

        Raises:
            tarfile.ReadError: if that is more than any header has.
        """
        if not 0 <= size <= _BLOCK:
            raise tarfile.ReadError(f"a header of {in_units(size)}")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Go to a position."""
        return self._stream.seek(position)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()


@contextlib.contextmanager
def reading_tar(archive: Path) -> Iterator[None]:
    """Turn whatever happens while a tar archive is read into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as err:  # damaged bytes can make the reader raise anything
        said = reason(err) if isinstance(err, OSError) else str(err) or type(err).__name__
        raise DataError(f"{archive}: not a readable tar archive ({said}); get it again") from err


def tar_members(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar archive; a damaged size that leads back in the archive, into an endless loop, is an error."""
    for member in opened:
        if member.size < 0:
            raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
        yield member


def _read_to_end(stream: BinaryIO) -> None:
    """Read what follows the last member, because the checksum of a compressed archive lies at its end."""
    for _ in range(_MAX_REST // _BLOCK):
        if not stream.read(_BLOCK):
            return
    raise tarfile.ReadError(f"more than {in_units(_MAX_REST)} after its last member")


@contextlib.contextmanager
def _opened_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar archive; its compression is recognised by its first bytes, not by its name."""
    with reading_tar(archive):
        with archive.open("rb") as stream:
            start = stream.read(6)
        unpacker = next((each for magic, each in _COMPRESSIONS.items() if start.startswith(magic)), None)
        opened: IO[bytes] = archive.open("rb") if unpacker is None else unpacker(archive)
        bounded = cast(BinaryIO, BoundedStream(cast(BinaryIO, opened)))
        with opened, tarfile.open(fileobj=bounded, mode="r:") as tar:
            yield tar
            _read_to_end(bounded)


def unpack_tar(archive: Path, target: Path) -> None:
    """Unpack a tar archive; refuse files that would land outside `target`.

    Raises:
        DataError: if the archive is damaged or unpacks to more than any dataset has, or the disk is full.
    """
    total = 0
    with _opened_tar(archive) as opened:
        for member in tar_members(opened):
            total += member.size
            if total > MAX_UNPACKED_BYTES:
                raise DataError(
                    f"{archive}/{member.name}: unpacks to {in_units(member.size)}, all to more than "
                    f"{in_units(MAX_UNPACKED_BYTES)}; damaged or made to fill the disk: get the archive again"
                )
            try:
                target.mkdir(parents=True, exist_ok=True)
                check_free_space(target, member.size, f"file {member.name} of {archive}")
                opened.extract(member, target, filter="data")
            except OSError as err:
                if err.filename is None and not is_disk_full(err):
                    raise  # an error of the archive, not of the target
                raise DataError(f"{archive}: cannot be unpacked to {target}: {reason(err)}") from err


def read_tar(archive: Path, wanted: Collection[str], *, limit: int) -> dict[str, bytes]:
    """Return the contents of the wanted files that a tar archive has, by file name without folder.

    Args:
        archive: the archive.
        wanted: file names without folder.
        limit: largest size in bytes that such a file can have.

    Raises:
        DataError: if the archive cannot be read, a file in it is larger, or two of them have the same name.
    """
    contents: dict[str, bytes] = {}
    places: dict[str, str] = {}
    with _opened_tar(archive) as opened:
        for member in tar_members(opened):
            if member.offset_data + member.size > _TAR_TO_FILE * limit:
                raise DataError(
                    f"{archive}/{member.name}: {in_units(member.size)} after {in_units(member.offset_data)} of other files; "
                    "damaged or made to fill the memory: get the archive again"
                )
            name = PurePosixPath(member.name).name
            stream = opened.extractfile(member) if member.isfile() and name in wanted else None
            if stream is None:
                continue
            if places.setdefault(name, member.name) != member.name:
                raise DataError(f"{archive}: {places[name]} and {member.name} are both in it; one of them is too many")
            if member.size > limit:
                raise DataError(
                    f"{archive}/{member.name}: {in_units(member.size)}, where at most {in_units(limit)} are expected; damaged or "
                    "made to fill the memory: get the archive again"
                )
            contents[name] = b"".join(iter(lambda stream=stream: stream.read(_BLOCK), b""))  # type: ignore[misc]
    return contents


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
    import http.client  # imported late, because processes that only decode do not need it
    import urllib.error

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch_once(url, part)
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as err:
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
        if response.length:
            raise ConnectionError(f"the connection was closed {response.length} bytes before the end")
