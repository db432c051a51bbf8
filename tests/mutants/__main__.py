"""Make every fault in a copy of the package and run the tests that look at it; name the faults that no test notices.

Results are kept in build/mutants.json: what was run before is not run again while the module, the fault and the test files are
the same. The checkout is never changed.
"""

import argparse
import hashlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

from tests.mutants.copies import Copy, Outcome, import_libraries
from tests.mutants.table import ROOT, Fault, Run, StaleFault, all_faults

RESULTS = ROOT / "build" / "mutants.json"
Task = tuple[Fault | None, tuple[Run, ...]]


def main() -> int:
    """Return 1 if a fault survives without an explanation, or is noticed in spite of one."""
    options = _options()
    faults = [fault for fault in all_faults() if options.only in f"{fault.table} {fault}"]
    if not faults:
        sys.exit(f"no fault has {options.only!r} in its file or name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that the tests end, too
    started = time.monotonic()
    import_libraries()
    kept = {} if options.again else _kept()
    runs = sorted({run for fault in faults for run in fault.runs})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Copy.create(Path(folder) / str(number)) for number in range(options.jobs)]
        _check(faults, copies[0])
        unchanged: list[Task] = [(None, (run,)) for run in runs]
        broken = [task for task, found in _outcomes(unchanged, copies, kept, options.timeout) if found.state != "passed"]
        if broken:
            sys.exit(f"these tests fail without any fault, mend them first: {', '.join(runs[0][1] for _, runs in broken)}")
        tasks: list[Task] = [(fault, fault.runs) for fault in faults]
        found = {task[0]: outcome for task, outcome in _outcomes(tasks, copies, kept, options.timeout)}
    return _summary(found, time.monotonic() - started)


def _check(faults: list[Fault], copy: Copy) -> None:
    """End with a message if a fault does not fit the module any more."""
    try:
        for fault in faults:
            fault.applied((copy.folder / "spikedistill" / fault.file).read_text(encoding="utf-8"))
    except StaleFault as err:
        sys.exit(str(err))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="faults with this text in their table, file or name")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time (default: 2)")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for the tests of a fault (default: 300)")
    parser.add_argument("--again", action="store_true", help="forget the results of earlier runs")
    return parser.parse_args()


def _outcomes(tasks: list[Task], copies: list[Copy], kept: dict[str, list], timeout: float) -> Iterator[tuple[Task, Outcome]]:
    """Yield the outcome of each task, from the results of earlier runs or from the tests, and keep it."""
    waiting: list[tuple[Task, str]] = []
    for task in tasks:
        key = _key(task, copies[0].folder / "spikedistill")
        if key in kept:
            yield task, Outcome(*kept[key])
        else:
            waiting.append((task, key))
    free, running = list(copies), {}
    try:
        while waiting or running:
            while waiting and free:
                copy, (task, key) = free.pop(), waiting.pop(0)
                copy.start(*task)
                running[copy.process.sentinel] = copy, task, key
            ended = set(wait(running, timeout=1))
            late = {sentinel for sentinel, (copy, _, _) in running.items() if copy.seconds() > timeout} - ended
            for sentinel in ended | late:
                copy, task, key = running.pop(sentinel)
                outcome = copy.finish(late=sentinel in late)
                _tell(task, outcome, copy)
                if outcome.state != "broken" and (task[0] or outcome.state == "passed"):
                    _keep(key, outcome)
                free.append(copy)
                yield task, outcome
    finally:
        for copy, _, _ in running.values():
            copy.finish(late=True)


def _key(task: Task, package: Path) -> str:
    """Return what the outcome depends on: the changed module, or the package, and the test files."""
    fault, runs = task
    found = hashlib.sha256(repr(task).encode())
    for path in [package / fault.file] if fault else sorted(package.rglob("*.py")):
        found.update(path.read_bytes())
    for _, file in runs:
        found.update((ROOT / "tests" / file).read_bytes())
    return found.hexdigest()


def _kept() -> dict[str, list]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def _keep(key: str, outcome: Outcome) -> None:
    """Add a result to those on disk, where another run may have added some."""
    RESULTS.parent.mkdir(exist_ok=True)
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(_kept() | {key: list(outcome)}, indent=0), encoding="utf-8")
    new.replace(RESULTS)


def _tell(task: Task, outcome: Outcome, copy: Copy) -> None:
    fault, runs = task
    if fault is None and outcome.state != "passed":
        print(f"FAILS UNCHANGED  {runs[0][1]}  {outcome.by}\n{copy.log.read_text(encoding='utf-8')[-3000:]}", flush=True)
    elif fault:
        what = {"passed": "explained" if fault.equivalent else "SURVIVES", "broken": "BROKEN"}.get(outcome.state, "noticed")
        print(f"{what:9}  {outcome.seconds:5.1f} s  {fault}  [{outcome.by or outcome.state}]", flush=True)


def _summary(found: dict[Fault | None, Outcome], seconds: float) -> int:
    faults = {fault: outcome.state for fault, outcome in found.items() if fault}
    wrong = {
        "survive: sharpen a test, or say in `equivalent` why none can notice": [
            fault for fault, state in faults.items() if state == "passed" and not fault.equivalent
        ],
        "are noticed, so take their `equivalent` out": [
            fault for fault, state in faults.items() if state in ("failed", "too slow") and fault.equivalent
        ],
        "could not be tested": [fault for fault, state in faults.items() if state == "broken"],
    }
    noticed = sum(state in ("failed", "too slow") for state in faults.values())
    explained = sum(bool(fault.equivalent) for fault, state in faults.items() if state == "passed")
    print(f"{len(faults)} faults: {noticed} noticed, {explained} explained; {seconds:.0f} s")
    for what, these in wrong.items():
        if these:
            print(f"{len(these)} {what}\n  " + "\n  ".join(f"tests/mutants/{fault.table}: {fault}" for fault in these))
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
