"""Snakemake inside a job, started without what a job does not need: `python -m …shim` takes Snakemake's own arguments.

Each change is guarded: where Snakemake has moved a thing, its own behaviour stays.
"""

import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

OTHER_PLUGINS = "snakemake_executor_plugin_"
THIS_PLUGIN = str(__package__).partition(".")[0]  # of the top: __name__ is "__main__" here


def main() -> None:
    """Run Snakemake's command line."""
    _list_modules_once()
    _never_report()
    _retry_outside_only()
    from snakemake.cli import main as snakemake_main

    snakemake_main([*sys.argv[1:], "--max-jobs-per-timespan", "1000/0s"])


def _list_modules_once() -> None:
    """Five registries of plugins list all modules of the path; executors of other names are imported for nothing."""
    listed = [m for m in pkgutil.iter_modules() if not m.name.startswith(OTHER_PLUGINS) or m.name == THIS_PLUGIN]
    iterate = pkgutil.iter_modules

    def iter_modules(path: Any = None, prefix: str = "") -> Iterator[pkgutil.ModuleInfo]:
        return iter(listed) if path is None and not prefix else iterate(path, prefix)

    pkgutil.iter_modules = iter_modules


def _never_report() -> None:
    """A job makes no report of the workflow, for which Snakemake would load a quarter of what it loads."""
    try:
        from snakemake_interface_report_plugins.registry import ReportPluginRegistry
    except ImportError:
        return

    def collect_plugins(self: Any) -> None:
        self.plugins = {}

    ReportPluginRegistry.collect_plugins = collect_plugins


def _retry_outside_only() -> None:
    """A rule's `retries` are new submissions by the main process, never repetitions inside the allocation."""
    try:
        from snakemake.rules import Rule

        Rule.restart_times = property(lambda self: 0, lambda self, value: None)  # type: ignore[assignment]
    except (ImportError, AttributeError):
        return


if __name__ == "__main__":
    main()
