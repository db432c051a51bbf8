"""Time of a refresh of `spikedistill status --watch`, for a plan of which half is done and two fifths run or wait in Slurm.

    python benchmarks/status.py [--runs 2500] [--write]

A run is a student, trained and measured. Slurm's answer is a stand-in's, of one line for each job; the remote calls that a
refresh takes on a real one are counted in tests/slurm.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
import uuid
from pathlib import Path

import yaml

from plan import config
from snakemake_executor_plugin_submitit.processes import ProcessId
from spikedistill.cli.arguments import plan_of
from spikedistill.launch.jobs.slurm import FIELDS
from spikedistill.launch.resources import costs_on
from spikedistill.launch.status.collect import Collector
from spikedistill.launch.status.plain import as_json, as_table
from spikedistill.plan.build import Plan
from spikedistill.store.artifacts import Store

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "status.json"
REPEATS = 5
EPOCHS = 40  # in the metrics of a stage that runs


def fill(plan: Plan) -> None:
    """Make the files of a run in this folder: half of the stages done, a fifth at work, a fifth pending."""
    store = Store(plan.config.store)
    stages = list(plan.stages.values())
    done, at_work, pending = len(stages) // 2, len(stages) // 5, len(stages) // 5
    for spec in stages[:done]:
        _make_artifact(store, spec.ref, list(spec.upstream.values()))
    for spec in stages[done : done + at_work]:
        _make_work(store.work(spec.ref))
    _make_jobs(plan, [spec.ref for spec in stages[done : done + at_work + pending]], at_work)


def _make_artifact(store: Store, ref: str, upstream: list[str]) -> None:
    manifest = {
        "spec": {"stage": "none", "filler": "x" * 2000},
        "files": {"weights.safetensors": {"sha256": "0" * 64, "bytes": 1}},
        "digest": ref,
        "upstream": {each: each for each in upstream},
        "host": "node1",
        "wall_s": 30.0,
        "gpu_hours": 0.0,
        "starts": 1,
    }
    store.path(ref).mkdir(parents=True)
    store.manifest_path(ref).write_text(json.dumps(manifest), encoding="utf-8")


def _make_work(work: Path) -> None:
    work.mkdir(parents=True)
    lease = {"owner": "a", "host": "node2", "pid": 1, "token": "t", "process": ProcessId.own().to_json() | {"host": "node2"}}
    (work / "lease").write_text(json.dumps(lease), encoding="utf-8")
    scalars = {"train/loss": 0.1234, "train/accuracy(%)": 98.7, "time/epoch(s)": 3.2, "time/throughput(samples/s)": 800.0}
    lines = (json.dumps({"epoch": epoch, **scalars}) + "\n" for epoch in range(EPOCHS))
    (work / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    (work / "starts.jsonl").write_text('{"started": "2026-01-01T00:00:00+00:00"}\n', encoding="utf-8")


def _make_jobs(plan: Plan, refs: list[str], at_work: int) -> None:
    """Write the executor's record of one array, and a squeue that answers for it."""
    folder = Path(".snakemake/submitit").absolute()
    array = folder / "arrays" / "20260101T000000"
    array.mkdir(parents=True)
    store = Store(plan.config.store)
    outputs = {ref: str(store.manifest_path(ref).absolute()) for ref in refs}
    records = [{"name": Path(ref).name, "job_dir": str(array), "outputs": [outputs[ref]]} for ref in refs]
    uid = uuid.uuid4().hex
    submission = {"folder": str(array), "records": records, "is_array": True, "job_id": "7", "time": 0.0, "uid": uid}
    (folder / "registry").mkdir()
    (folder / "registry" / f"{uid}.json").write_text(json.dumps(submission), encoding="utf-8")
    lines = [_line(i, runs=i < at_work, script=array / ".submission_file_0.sh") for i in range(len(refs))]
    Path("answer").write_text("\n".join(lines) + "\n", encoding="utf-8")
    squeue = Path("bin") / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho call >> '{Path('calls').absolute()}'\ncat '{Path('answer').absolute()}'\n")
    squeue.chmod(0o755)


def _line(index: int, *, runs: bool, script: Path) -> str:
    values = {
        "JobArrayID": f"7_{index}",
        "State": "RUNNING" if runs else "PENDING",
        "RestartCnt": "0",
        "PreemptTime": "N/A",
        "StartTime": "2026-01-01T00:00:00",
        "TimeUsed": "1:00" if runs else "0:00",
        "tres-alloc": "cpu=4,mem=16G,node=1,gres/gpu=1",
        "NodeList": "node2" if runs else "",
        "Reason": "None" if runs else "Priority",
    }
    return "|".join([*(values[field].ljust(width) for field, width in FIELDS.items()), str(script).ljust(300) + "|"])


def measure(plan: Plan) -> dict[str, object]:
    """Seconds of the first refresh and of those after it, and of showing them."""
    collector = Collector(plan, {}, costs_on(plan, {}))
    started = time.perf_counter()
    snapshot = collector.collect()
    first_s = time.perf_counter() - started
    later, cpu = [], []
    for _ in range(REPEATS):
        started, began = time.perf_counter(), time.process_time()
        snapshot = collector.collect()
        later.append(time.perf_counter() - started)
        cpu.append(time.process_time() - began)
    started = time.perf_counter()
    as_table(snapshot)
    table_s = time.perf_counter() - started
    started = time.perf_counter()
    as_json(snapshot)
    json_s = time.perf_counter() - started
    calls = len(Path("calls").read_text().splitlines())
    return {
        "counts": dict(snapshot.totals.counts),
        "first_refresh_s": round(first_s, 3),
        "refresh_s": [round(seconds, 3) for seconds in later],
        "refresh_cpu_s": [round(seconds, 3) for seconds in cpu],
        "table_s": round(table_s, 3),
        "json_s": round(json_s, 3),
        "squeue_calls_per_refresh": calls / (REPEATS + 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2500)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        Path("config.yaml").write_text(yaml.safe_dump(config(options.runs)), encoding="utf-8")
        started = time.perf_counter()
        plan = plan_of([Path("config.yaml")], [])
        plan_s = time.perf_counter() - started
        fill(plan)
        os.environ["PATH"] = os.pathsep.join([str(Path("bin").absolute()), os.environ["PATH"]])
        measured = measure(plan)
        os.chdir(ROOT)
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} (1 min), Python {platform.python_version()}"
    results = {"stages": len(plan.stages), "machine": machine, "plan_s": round(plan_s, 2), **measured}
    print(json.dumps(results, indent=1))
    if options.write:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
