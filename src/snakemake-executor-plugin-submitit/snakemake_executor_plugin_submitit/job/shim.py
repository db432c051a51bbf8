"""Start Snakemake inside a job with a reduced start-up: `python -m …shim` takes Snakemake's own arguments.

Each patch is guarded: if Snakemake moves what it changes, Snakemake's own behaviour stays. tests/unit/test_snakemake_internals.py
then fails and names it.
"""

import argparse
import pkgutil
import sys
import types
from collections.abc import Iterator
from typing import Any

OTHER_PLUGINS = "snakemake_executor_plugin_"
DATABASE = "--persistence-backend"
THIS_PLUGIN = str(__package__).partition(".")[0]  # the top-level package; __name__ is "__main__"


def main() -> None:
    """Run Snakemake's command line."""
    prepare()
    run(sys.argv[1:])


def prepare() -> None:
    """Adapt Snakemake, once per process."""
    _list_modules_once()
    _never_report()
    _leave_out_databases()
    _retry_outside_only()


def run(arguments: list[str]) -> None:
    """Run Snakemake with these arguments, some of which are for the shim; ends with SystemExit."""
    from snakemake.cli import main as snakemake_main

    arguments, staging = split_arguments(arguments)
    if staging.stage_in:
        from snakemake_executor_plugin_submitit.job.staged_inputs import stage_inputs

        stage_inputs(staging.stage_in.split(","), staging.stage_in_folder, staging.stage_in_gb)
    snakemake_main([*arguments, "--max-jobs-per-timespan", "1000/0s"])


def split_arguments(arguments: list[str]) -> tuple[list[str], argparse.Namespace]:
    """Return Snakemake's arguments, and those of the shim, which come after them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--stage-in")
    parser.add_argument("--stage-in-folder")
    parser.add_argument("--stage-in-gb", type=int)
    start = arguments.index("--stage-in") if "--stage-in" in arguments else len(arguments)
    return arguments[:start], parser.parse_args(arguments[start:])


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


def _leave_out_databases() -> None:
    """Keep metadata of outputs in files without loading SQLAlchemy, a quarter of what Snakemake loads.

    Snakemake's class of a record is a database table as well; here it becomes a plain pydantic model with the same fields.
    """
    names = ("sqlalchemy", "sqlmodel", "snakemake.persistence.db")
    if DATABASE in sys.argv or any(name in sys.modules for name in (*names, "snakemake.persistence")):
        return
    try:
        import pydantic
    except ImportError:
        return
    nothing: Any = lambda *args, **options: None  # noqa: E731
    record = type("SQLModel", (pydantic.BaseModel,), {"__module__": __name__})
    stand_ins = [types.ModuleType(name) for name in names]
    vars(stand_ins[0]).update(Column=nothing, JSON=nothing)
    vars(stand_ins[1]).update(SQLModel=record, Field=_field)
    vars(stand_ins[2]).update(DbPersistence=type("DbPersistence", (), {}))
    sys.modules.update(zip(names, stand_ins, strict=True))
    try:
        import snakemake.persistence  # noqa: F401
    except Exception:  # it uses more of these modules than it used to
        for name in [name for name in sys.modules if name.startswith("snakemake.persistence")]:
            del sys.modules[name]
    finally:
        for name in names[:2]:  # for code of a rule that imports them
            del sys.modules[name]


def _field(default: Any = ..., *, default_factory: Any = None, **options: Any) -> Any:
    """Describe a field of a record, ignoring the options of its database column."""
    from pydantic import Field

    return Field(default_factory=default_factory) if default_factory is not None else Field(default=default)


def _retry_outside_only() -> None:
    """Disable retries inside the allocation; a rule's `retries` are new submissions by the main process."""
    try:
        from snakemake.rules import Rule

        Rule.restart_times = property(lambda self: 0, lambda self, value: None)  # type: ignore[assignment]
    except (ImportError, AttributeError):
        return


if __name__ == "__main__":
    main()
