"""Snakemake's own tests of executors, for the settings that a test class names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake.settings.types import ResourceSettings

from snakemake_executor_plugin_submitit import ExecutorSettings


class PublishedTests(TestWorkflowsLocalStorageBase):
    """The published tests, with plain files."""

    settings: Mapping[str, Any]
    pool: str | None = None

    def get_executor(self) -> str:
        """Return the name of the plugin."""
        return "submitit"

    def get_executor_settings(self) -> ExecutorSettings:
        """Return the settings of the class."""
        return ExecutorSettings(**self.settings)

    def get_resource_settings(self) -> ResourceSettings:
        """Return what every job requests."""
        wanted: dict[str, Any] = {"mem_mb": 100, "runtime": 10}
        return ResourceSettings(default_resources=wanted | ({"pool": self.pool} if self.pool else {}))
