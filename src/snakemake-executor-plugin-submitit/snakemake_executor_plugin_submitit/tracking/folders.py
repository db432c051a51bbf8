"""Keep the empty output folders of jobs that outlive the main process.

At the end of a run, Snakemake removes the empty folders of files that are missing. The jobs that a detached or killed main
process left behind still want to write there.
"""

from typing import Any

from snakemake_executor_plugin_submitit.tracking.registry import Registry


def keep_folders(dag: Any, registry: Registry) -> None:
    """Keep a Snakemake DAG from removing folders at its end while jobs of the registry may still be running.

    If Snakemake moves what is changed here, its own behaviour stays; tests/unit/test_snakemake_internals.py then fails.
    """
    cleanup = getattr(dag, "cleanup_workdir", None)
    if cleanup is None:
        return

    def cleanup_unless_jobs_run() -> None:
        if not registry.has_open():
            cleanup()

    dag.cleanup_workdir = cleanup_unless_jobs_run
