"""Small JSON files by which processes on several nodes tell each other things."""

import json
import uuid
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.rename(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None when it is not there or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
