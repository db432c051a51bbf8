"""Time and memory of planning many runs: `spikedistill plan` and `snakemake -n`.

    python benchmarks/plan.py [--runs 5000] [--write]

A run is a student, trained and measured. The plan is a sweep over one method's parameter and seeds, on the demo's digits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "plan.json"
SEEDS = 50


def config(runs: int) -> dict[str, Any]:
    train = {"epochs": 12, "batch_size": 64}
    alphas = [round(0.001 * (i + 1), 3) for i in range(runs // SEEDS)]
    return {
        "seeds": list(range(SEEDS)),
        "experiments": {
            "digits": {
                "dataset": {"name": "digits"},
                "teacher": {"arch": "resnet8", "train": train},
                "student": {"arch": "resnet8", "time_steps": 4, "train": train},
                "methods": {"kd": {"params": {"alpha": alphas}}},
            }
        },
    }


def measure(folder: Path, *command: str) -> dict[str, Any]:
    """Wall and CPU seconds and peak memory of a command; its last line."""
    with (folder / "output").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        text = (folder / "output").read_text()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{text[-3000:]}")
    counts = [line for line in text.splitlines() if "stages" in line or line.startswith("total ")]
    return {
        "command": " ".join(command),
        "wall_s": round(wall, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "says": counts[-1] if counts else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("Snakefile", "workflow", "cluster", "envs"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "config.yaml").write_text(yaml.safe_dump(config(options.runs)), encoding="utf-8")
        program = Path(sys.executable).parent
        rows = [
            measure(folder, str(program / "spikedistill"), "plan"),
            measure(folder, str(program / "spikedistill"), "plan", "--table"),
            measure(folder, str(program / "snakemake"), "-n"),
        ]
    for row in rows:
        row["command"] = row["command"].removeprefix(f"{program}/")
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} (1 min), Python {platform.python_version()}"
    results = {"runs": options.runs, "machine": machine, "rows": rows}
    print(json.dumps(results, indent=1))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
