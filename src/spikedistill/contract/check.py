"""Runs the checks of all components of a plug-in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import NamedTuple

from spikedistill import components
from spikedistill.contract import batches, datasets, methods, multi_step, networks, neurons, optimizers, schedules, training
from spikedistill.errors import ConfigError
from spikedistill.plugins import Source, file_of, named, source_of

CHECKS: dict[components.Kind, tuple[Callable[[ModuleType], None], ...]] = {
    "data.datasets": datasets.CHECKS,
    "neurons.kinds": neurons.CHECKS,
    "train.optimizers": optimizers.CHECKS,
    "train.schedules": schedules.CHECKS,
}
"""Checks of the kinds that have only checks of the module."""


_IMPORTS_TORCH = 3
"""Exit status of a process that found torch imported."""


class Finding(NamedTuple):
    """The result of one check of one component; `problem` is empty if the promise holds."""

    component: str
    promise: str
    problem: str


def check_plugin(source: Source) -> Iterator[Finding]:
    """Yield a finding for each promise of each component of a plug-in."""
    kinds: tuple[components.Kind, ...] = (*CHECKS, "distill")
    for kind in kinds:
        for name in components.names_in(source, kind):
            label = f"{components.WHAT[kind]} {name}"
            yield from _findings(label, kind, name)
    for name, (module, entry) in components.architectures().items():
        if source_of(module) == source:
            checks = multi_step.CHECKS if entry.get("multi_step") else networks.CHECKS
            yield from (_finding(f"architecture {name}", check.__doc__, partial(check, name)) for check in checks)


def _findings(label: str, kind: components.Kind, name: str) -> Iterator[Finding]:
    """Yield the findings of a component that is a file of its own; only one if it cannot be used at all."""
    try:
        module = components.load(kind, name)
    except ConfigError as err:
        yield Finding(label, "The file can be imported and has all that its kind needs.", str(err))
        return
    yield _finding(label, _is_quick_to_import.__doc__, partial(_is_quick_to_import, module.__name__))
    if kind in CHECKS:
        yield from (_finding(label, check.__doc__, partial(check, module)) for check in CHECKS[kind])
        return
    yield from (_finding(label, check.__doc__, partial(check, module)) for check in methods.ONCE)
    for params in batches.choices(module):
        chosen = " ".join([label, *(f"{key}={value}" for key, value in params.items())])
        yield from (_finding(chosen, check.__doc__, partial(check, module, params)) for check in methods.OF_EACH_CHOICE)
        check = training.trains_on_every_kind_of_data
        yield _finding(chosen, check.__doc__, partial(check, name, params))


def _finding(component: str, promise: str | None, check: Callable[[], None]) -> Finding:
    """Run one check; whatever the component raises is a finding."""
    problem = ""
    try:
        check()
    except AssertionError as err:
        problem = str(err) or "an assertion of the component failed"
    except Exception as err:
        problem = f"{type(err).__name__}: {err}"
    return Finding(component, (promise or "").partition("\n")[0], problem)


def _is_quick_to_import(module: str) -> None:
    """Importing the file does not import torch: `snakemake -n` imports what a configuration names."""
    activation = f"from spikedistill import plugins; plugins.activate({named()!r})"
    code = f"import sys; {activation}; import {module}; sys.exit({_IMPORTS_TORCH} if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if done.returncode not in (0, _IMPORTS_TORCH):
        said = done.stderr.strip().rpartition("\n")[2]
        raise AssertionError(f"{file_of(module)} cannot be imported in a new process: {said}")
    if done.returncode:
        raise AssertionError(
            f"{file_of(module)} imports torch when it is imported: write `from spikedistill.lazy import torch`, and import other "
            "modules that need it inside functions"
        )
