"""Files of a checkout that are written from the code: schema, reference, tables in README.md and docs/. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from spikedistill.config.reference import REFERENCE_FILE, configuration_reference
from spikedistill.config.schema import SCHEMA_FILE, schema_text
from spikedistill.config.tables import updated_documents
from spikedistill.errors import ConfigError
from spikedistill.store.atomic import write_text

ROOT = Path(__file__).parents[3]


def generated_files() -> dict[Path, str]:
    """Return what each generated file of the checkout should hold.

    Raises:
        ConfigError: if this is an installed package, which has no documents beside it.
    """
    if not (ROOT / "docs").is_dir():
        raise ConfigError(f"{ROOT} is no checkout of spikedistill, so there is nothing to generate")
    return {SCHEMA_FILE: schema_text(), REFERENCE_FILE: configuration_reference(), **updated_documents(ROOT)}


def write_generated() -> list[Path]:
    """Write the generated files that are not up to date; return their paths."""
    stale = {file: text for file, text in generated_files().items() if _content(file) != text}
    return [write_text(file, text) for file, text in stale.items()]


def _content(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
