"""Snakemake inside a job, started without what a job does not need: `python -m …shim` takes Snakemake's own arguments.

Each change is guarded: where Snakemake has moved a thing, its own behaviour stays.
"""

import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

OTHER_PLUGINS = "snakemake_executor_plugin_"


def main() -> None:
    """Run Snakemake's command line."""
    _hide_other_executors()
    _retry_outside_only()
    from snakemake.cli import main as snakemake_main

    snakemake_main([*sys.argv[1:], "--max-jobs-per-timespan", "1000/0s"])


def _hide_other_executors() -> None:
    """Every executor plugin on the path is imported by every Snakemake; a job needs this one alone."""
    iterate = pkgutil.iter_modules

    def iter_modules(*args: Any, **kwargs: Any) -> Iterator[pkgutil.ModuleInfo]:
        for module in iterate(*args, **kwargs):
            if not module.name.startswith(OTHER_PLUGINS) or module.name == __package__:
                yield module

    pkgutil.iter_modules = iter_modules  # type: ignore[assignment]


def _retry_outside_only() -> None:
    """A rule's `retries` are new submissions by the main process, never repetitions inside the allocation."""
    try:
        from snakemake.rules import Rule

        Rule.restart_times = property(lambda self: 0, lambda self, value: None)  # type: ignore[assignment]
    except (ImportError, AttributeError):
        return


if __name__ == "__main__":
    main()
