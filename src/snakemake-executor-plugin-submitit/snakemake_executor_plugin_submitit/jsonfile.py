"""Small JSON files by which processes on several nodes tell each other things."""

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

RESULT = "result.json"


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OSError: if it cannot be written, as on a full disk; nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears whole or not at all.

    Raises:
        OSError: if it cannot be written, as on a full disk; nothing is left of it.
    """
    write_text(path, json.dumps(content))


def read_json(path: Path) -> Any:
    """The content of a JSON file; None when it is not there or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_result(place: Path) -> dict[str, Any] | None:
    """The outcome of the job of a folder, or None while there is none."""
    return read_json(place / RESULT)
