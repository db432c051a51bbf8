"""Start Snakemake inside a job with a reduced start-up: `python -m …shim` takes Snakemake's own arguments.

Each patch is guarded: if Snakemake moves what it changes, Snakemake's own behaviour stays. tests/unit/test_snakemake_internals.py
then fails and names it.
"""

import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

OTHER_PLUGINS = "snakemake_executor_plugin_"
THIS_PLUGIN = str(__package__).partition(".")[0]  # the top-level package; __name__ is "__main__"


def main() -> None:
    """Run Snakemake's command line."""
    prepare()
    run(sys.argv[1:])


def prepare() -> None:
    """Adapt Snakemake, once in a process."""
    _list_modules_once()
    _never_report()
    _retry_outside_only()


def run(arguments: list[str]) -> None:
    """Run Snakemake with these arguments; ends with SystemExit."""
    from snakemake.cli import main as snakemake_main

    snakemake_main([*arguments, "--max-jobs-per-timespan", "1000/0s"])


def _list_modules_once() -> None:
    """List the modules on sys.path once for all five plugin registries, leaving out other executors."""
    listed = [m for m in pkgutil.iter_modules() if not m.name.startswith(OTHER_PLUGINS) or m.name == THIS_PLUGIN]
    iterate = pkgutil.iter_modules

    def iter_modules(path: Any = None, prefix: str = "") -> Iterator[pkgutil.ModuleInfo]:
        return iter(listed) if path is None and not prefix else iterate(path, prefix)

    pkgutil.iter_modules = iter_modules


def _never_report() -> None:
    """Skip the report plugins, a quarter of Snakemake's imports: a job writes no report."""
    try:
        from snakemake_interface_report_plugins.registry import ReportPluginRegistry
    except ImportError:
        return

    def collect_plugins(self: Any) -> None:
        self.plugins = {}

    ReportPluginRegistry.collect_plugins = collect_plugins


def _retry_outside_only() -> None:
    """Disable retries inside the allocation; a rule's `retries` are new submissions by the main process."""
    try:
        from snakemake.rules import Rule

        Rule.restart_times = property(lambda self: 0, lambda self, value: None)  # type: ignore[assignment]
    except (ImportError, AttributeError):
        return


if __name__ == "__main__":
    main()
