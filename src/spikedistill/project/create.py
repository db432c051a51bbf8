"""`spikedistill init`: a new project, which uses the workflow of the package."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path

from spikedistill import plugins
from spikedistill.config.schema import SCHEMA_FILE
from spikedistill.errors import ConfigError
from spikedistill.project.files import ROOT, profiles, recipe

TEMPLATE = Path(__file__).with_name("template")
_SCHEMA_LINE = re.compile(r"(?m)^(# yaml-language-server: \$schema=).*$")
_CONFIGFILE = re.compile(r" --configfile workflow/recipes/\S+")
_END_OF_HEADER = re.compile(r"(?m)^$\n")
_PLUGINS = "\nplugins: [./plugins]   # methods, datasets, networks … of your own: plugins/README.md\n"


def create_project(folder: Path, recipe_name: str | None = None) -> Path:
    """Write a project into a folder; return its path.

    A new folder appears whole. In a folder that exists, nothing is replaced.

    Args:
        folder: new or existing.
        recipe_name: recipe to start from; the demo if None.

    Raises:
        ConfigError: if something of the project's is there already, or there is no such recipe.
        OSError: if it cannot be written; nothing is left of it.
    """
    contents = project_files(recipe_name)
    refuse_to_replace(folder, contents)
    fresh = not folder.exists()
    draft = (folder.parent if fresh else folder) / f".spikedistill-init-{uuid.uuid4().hex[:8]}.tmp"
    draft.mkdir(parents=True)
    try:
        for name, content in contents.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        if fresh:
            draft.rename(folder)
        else:
            _move_entries(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def project_files(recipe_name: str | None = None) -> dict[str, bytes]:
    """Return the files of a new project: path in it -> content."""
    config = recipe(recipe_name) if recipe_name else ROOT / "config.yaml"
    return {
        "config.yaml": project_config(config.read_text(encoding="utf-8")).encode(),
        "config.schema.json": SCHEMA_FILE.read_bytes(),
        "Snakefile": (TEMPLATE / "Snakefile").read_bytes(),
        ".gitignore": (TEMPLATE / "gitignore").read_bytes(),
        "plugins/README.md": (TEMPLATE / "plugins" / "README.md").read_bytes(),
        **{f"plugins/{room}/.gitkeep": b"" for room in plugins.ROOMS},
        **{name: file.read_bytes() for name, file in profiles().items()},
    }


def project_config(text: str) -> str:
    """Return the text of a shipped configuration as the config.yaml of a project, with its plug-ins."""
    text = _CONFIGFILE.sub("", _SCHEMA_LINE.sub(r"\1config.schema.json", text))
    return _END_OF_HEADER.sub(_PLUGINS, text, count=1)


def refuse_to_replace(folder: Path, contents: dict[str, bytes]) -> None:
    """Check that a project can be written into a folder without touching what is there.

    Raises:
        ConfigError: if not.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder")
    there = [name for name in _entries(contents) if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise ConfigError(f"{folder}: has {', '.join(there)} already, which stay as they are; choose another folder")


def _entries(contents: dict[str, bytes]) -> list[str]:
    """Return what lies at the top of the project; config.yaml, without which it is none, comes last."""
    return sorted({name.partition("/")[0] for name in contents}, key=lambda name: (name == "config.yaml", name))


def _move_entries(draft: Path, folder: Path) -> None:
    moved: list[Path] = []
    try:
        for name in _entries({entry.name: b"" for entry in draft.iterdir()}):
            (draft / name).rename(folder / name)
            moved.append(folder / name)
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
