"""The battery: which parts are left, in which environment they run, what is recorded of them. Imports no torch."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.records import ROOT, find_facts, read, write
from benchmarks.gpu.running import Environments, run_part
from benchmarks.gpu.site import install, save
from spikedistill.errors import ConfigError
from spikedistill.launch.compiler_caches import keep_compiled_code
from spikedistill.plan.costs.gpus import key_of


def run(options: argparse.Namespace, folders: tuple[Path, ...]) -> int:
    """Run parts; return 0 if all of them ended well.

    Args:
        options: as `__main__` defines them.
        folders: what Python has to find.

    Raises:
        ConfigError: if there is no such part, or no GPU that torch can use.
    """
    names = [part.name for part in PARTS]
    if unknown := [name for name in options.parts if name not in names]:
        raise ConfigError(f"--parts: no part {', '.join(unknown)}; there are {', '.join(names)}")
    environments = _environments(folders, fake=options.fake)
    facts = find_facts(environments.figures) | {"short": options.short}
    if "gpu" not in facts and not options.list:
        advice = "to see that it runs, with figures that mean nothing: python -m benchmarks.gpu --fake"
        raise ConfigError(f"no GPU: {facts['why']}\n{advice}")
    folder = (options.out or ROOT / "benchmarks/results" / f"gpu-{key_of(facts.get('gpu', 'none'))}").absolute()
    if options.list:
        for part in PARTS:
            print(f"{'done' if read(folder / f'{part.name}.json', facts)['complete'] else 'to do':6} {part.name:10} {part.about}")
        return 0
    parts = [part for part in PARTS if part.name in (options.parts or names)]
    if not options.short:
        return _run_parts(options, parts, environments, facts, folder)
    print("In short: no figure means anything" + (f"; records in {folder}" if options.out else ", and none is kept"))
    with tempfile.TemporaryDirectory() as temporary:
        return _run_parts(options, parts, environments, facts, folder if options.out else Path(temporary))


def _environments(folders: tuple[Path, ...], *, fake: bool) -> Environments:
    """Return the variables of the commands: where the packages are and compiled code is kept; with a fake GPU, what makes it."""
    path = {"PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])}
    if fake:
        from tests.gpu.fake.build import fake_environment

        return Environments(fake_environment() | path, {**os.environ, **path})
    keep_compiled_code()
    environment = {**os.environ, **path}
    return Environments(environment, environment)


def _run_parts(
    options: argparse.Namespace, parts: list[Part], environments: Environments, facts: dict[str, Any], folder: Path
) -> int:
    """Run what is not done yet; return 0 if all parts are done in the end."""
    print(f"{facts['gpu']}, driver {facts['driver']}, torch {facts['torch']}, Python {facts['python']}", flush=True)
    deadline = time.monotonic() + 60 * options.minutes
    left = [part.name for part in parts if not _run_one(options, part, environments, facts, folder, deadline)]
    if options.install and not options.short:
        print(f"estimates use these figures from now on: {install(folder)}")
    print(f"not done: {', '.join(left)}; see {folder}" if left else f"all done; records in {folder}")
    return 1 if left else 0


def _run_one(
    options: argparse.Namespace, part: Part, environments: Environments, facts: dict[str, Any], folder: Path, deadline: float
) -> bool:
    """Run what is left of a part; return whether all of it is done."""
    file = folder / f"{part.name}.json"
    record: dict[str, Any] = {"complete": False, "results": {}} if options.again else read(file, facts)
    if record["complete"]:
        print(f"== {part.name}: done, {file}", flush=True)
        return True
    missing, limit_s = _missing(part.needs), deadline - time.monotonic()
    if missing or limit_s <= 0:
        why = f"it needs {', '.join(missing)}" if missing else "the time is over"
        print(f"== {part.name}: not run, {why}", flush=True)
        return False
    print(f"== {part.name}: {part.about}", flush=True)
    head = {"part": part.name, "facts": facts}

    def keep(results: dict[str, Any]) -> None:
        write(file, {**head, "complete": False, "results": results})

    complete = run_part(part, environments, record["results"], keep, limit_s=limit_s, short=options.short)
    record = {**json.loads(file.read_text(encoding="utf-8")), "complete": complete}
    write(file, record)
    if complete and part.name == "constants":
        print(f"   figures for estimates: {save(record, folder)}")
    return complete


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
