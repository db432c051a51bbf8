"""Name a configuration file that cannot be read; Snakemake, which reads `--configfile` first, ends in a traceback.

A file that is missing, a folder, not UTF-8, or with a value like 2020-13-45 is a mistake of the user, not a bug.
"""

from typing import Any

from snakemake_interface_common.exceptions import WorkflowError


def name_unreadable_files() -> None:
    """Make Snakemake's settings turn every error of a configuration file into a message that names the file.

    If Snakemake moves what is patched here, its own behaviour stays; tests/unit/test_snakemake_internals.py then fails.
    """
    try:
        from snakemake.settings import types

        load = types.load_configfile
    except (ImportError, AttributeError):
        return
    if getattr(load, "names_file", False):
        return

    def load_and_name(path: Any) -> Any:
        try:
            return load(path)
        except Exception as err:
            why = err.strerror if isinstance(err, OSError) else str(err) or type(err).__name__
            raise WorkflowError(f"--configfile {path}: {why}") from err

    load_and_name.names_file = True  # type: ignore[attr-defined]
    types.load_configfile = load_and_name
