"""Small JSON files through which processes on several nodes exchange messages; written atomically, private to their owner."""

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.private import FILE_MODE, write_new

RESULT = "result.json"


def write_file(path: Path, content: str | bytes, *, mode: int = FILE_MODE) -> None:
    """Write a file atomically, readable by its owner only unless `mode` says otherwise.

    Raises:
        OSError: if it cannot be written, for example on a full disk; no partial file is left.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_new(temporary, content, mode=mode)
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, content: Any, *, mode: int = FILE_MODE) -> None:
    """Write a JSON file atomically, readable by its owner only unless `mode` says otherwise.

    Raises:
        OSError: if it cannot be written, for example on a full disk; no partial file is left.
    """
    write_file(path, json.dumps(content), mode=mode)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None if it is missing or not readable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_result(job_dir: Path) -> dict[str, Any] | None:
    """Return the result that a job left in its folder, or None if there is none or it is not a valid one."""
    result = read_json(job_dir / RESULT)
    return result if isinstance(result, dict) and isinstance(result.get("status"), int) else None
