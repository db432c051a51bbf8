"""Load once, in a worker, what each of its jobs would load: Snakemake, and the modules that the user names.

A job is then a fork of the worker. By then the worker must have no threads of its own, and importing a module must not start
anything that does not survive a fork; importing torch starts no thread and opens no device. Code that has since changed on disk
must not run: the worker notices that, and exits.
"""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from snakemake_executor_plugin_submitit.job import shim
from snakemake_executor_plugin_submitit.worker.spare import THREADS, loaded_programs

# what Snakemake loads in a job beyond its command line's own imports
OF_A_JOB = ("snakemake.storage", "snakemake.profiles", "smart_open", "requests", "yaml", "stringprep", "encodings.idna")


class WarmModules:
    """The loaded modules, and what their files looked like.

    Attributes:
        programs: console scripts whose modules are loaded, see `spare.loaded_programs`.
        threads: variables for the number of threads of numerical libraries, as they were when these were loaded.
    """

    def __init__(self) -> None:
        """Start with nothing loaded."""
        self._files: dict[str, tuple[int, int]] = {}
        self.programs: dict[str, str] = {}
        self.threads: dict[str, str] = {}

    def load(self, preload: Sequence[str], *, cpus: int) -> list[str]:
        """Import Snakemake and these modules; return what went wrong, a line for each module that cannot be loaded.

        Args:
            preload: names of modules.
            cpus: threads of a job, for libraries that create them, or fix their number, when they are loaded.
        """
        shim.prepare()
        import snakemake.cli  # noqa: F401 - before its other modules, which import each other

        self.threads = dict.fromkeys(THREADS, str(cpus))
        wrong = []
        with _in_environment(self.threads):
            for name in (*OF_A_JOB, *preload):
                try:
                    importlib.import_module(name)
                except Exception as err:  # whatever a module raises; the job itself will report it better
                    if name in preload:
                        wrong.append(f"{name} cannot be loaded beforehand: {type(err).__name__}: {err}")
        self.programs = loaded_programs(preload)
        self._files = {file: facts for file in _loaded_files() if (facts := _facts(file)) is not None}
        gc.collect()
        gc.freeze()  # the collector of a forked process would copy every page that it visits
        return wrong

    def are_stale(self) -> bool:
        """Return True if a loaded file has been changed."""
        return any(_facts(file) != facts for file, facts in self._files.items())


@contextlib.contextmanager
def _in_environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _loaded_files() -> set[str]:
    """Return the files of all loaded modules, without those of Python itself, which nobody edits."""
    standard = str(Path(os.__file__).parent)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file for file in files if file and (not file.startswith(standard) or "site-packages" in file)}


def _facts(file: str) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
