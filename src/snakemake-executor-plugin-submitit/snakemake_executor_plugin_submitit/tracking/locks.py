"""Release stale locks of a working directory, whose owner was killed.

Snakemake's lock files do not name their owner, so after a `kill -9` it asks for `--unlock`. Here the owner is recorded beside
them: machine, boot, PID, start time, and files. A lock is released only if that very process is known to be gone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.jsonfile import read_json, write_json
from snakemake_executor_plugin_submitit.processes import ProcessId

NOTE_MODE = 0o666  # less the umask, like Snakemake's own locks: whoever shares the working directory must see who holds them


def watch_locks() -> None:
    """Make Snakemake record the owner of its locks, and release stale locks before it checks them.

    If Snakemake moves what is patched here, its own behaviour stays; tests/unit/test_snakemake_internals.py then fails.
    """
    try:
        from snakemake.persistence.file import FilePersistence

        write, locked = FilePersistence._write_locks, FilePersistence.locked.fget
    except (ImportError, AttributeError):
        return
    if getattr(write, "notes_owner", False):
        return

    def write_and_note(self: Any, *args: Any, **kwargs: Any) -> None:
        write(self, *args, **kwargs)
        note_owner(Path(self._lockdir), [Path(file) for file in self._lockfile.values()])

    def release_and_look(self: Any) -> bool:
        release_stale(Path(self._lockdir))
        return locked(self)

    write_and_note.notes_owner = True  # type: ignore[attr-defined]
    FilePersistence._write_locks = write_and_note
    FilePersistence.locked = property(release_and_look)


def note_owner(folder: Path, files: list[Path]) -> None:
    """Record that this process holds these lock files."""
    owner = ProcessId.own()
    note = {"process": owner.to_json(), "files": {f.name: _identity(f) for f in files}}
    write_json(folder / f"owner-{owner.pid}.json", note, mode=NOTE_MODE)


def release_stale(folder: Path) -> None:
    """Remove the lock files of owners that are gone from this machine; keep all others."""
    for path, owner, held in _notes(folder):
        if owner.is_alive():
            continue
        for file in held:
            file.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def lock_owners(folder: Path) -> list[tuple[ProcessId, list[Path]]]:
    """Return the processes that hold locks, unless they are known to be gone, each with its lock files; change nothing.

    Anyone who may write to the folder may have written this: it is for people to read.
    """
    return [(owner, held) for _, owner, held in _notes(folder) if held and owner.is_alive()]


def _notes(folder: Path) -> Iterator[tuple[Path, ProcessId, list[Path]]]:
    """Yield each note with the owner that it names, and those of its lock files that still exist."""
    for path in folder.glob("owner-*.json"):
        content = read_json(path)
        try:
            owner, files = ProcessId.from_json(content["process"]), dict(content["files"])
        except (KeyError, TypeError, ValueError):  # damaged: nothing is known to be stale
            continue
        held = {folder / Path(name).name: identity for name, identity in files.items()}
        yield path, owner, [file for file, identity in held.items() if _identity(file) == identity]


def _identity(file: Path) -> list[int] | None:
    """Return what distinguishes a lock file from a later one with the same name."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns]
