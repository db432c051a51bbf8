"""A workflow of 1,000 short stages on a real Slurm cluster of 16 nodes: our executor with and without pools, the slurm plugin.

    python benchmarks/dag_scale.py --baseline-python .venv-baseline/bin/python --write

The workflow has the shape of a comparison: data sets, a teacher on each, students, an evaluation of each, a report; the
commands do nothing. The cluster, the environment of the other plugin and what each figure means are those of executor.py.

    python benchmarks/dag_scale.py --jobs 6 --nodes 1                                      # a short try
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src" / "snakemake-executor-plugin-submitit" / "tests")]

from benchmarks import executor  # noqa: E402
from slurm_lab.cluster import running_cluster  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "dag_scale.json"
NODES, JOBS, FEWEST_JOBS, IN_FLIGHT, WARM_UP = 16, 1000, 5, 200, 23
# {jobs} stages: of 1,000, 10 data sets, 10 teachers, students and their evaluations, a report
SNAKEFILE = """\
DATA, LAST = max(1, {jobs} // 100), {jobs} - 1
STUDENTS = ({jobs} - 2 * DATA) // 2
FIRST_EVALUATION = 2 * DATA + STUDENTS


def upstream(wildcards):
    n = int(wildcards.n)
    if n < DATA:
        return []
    if n < 2 * DATA:
        return [f"out/{{n - DATA}}"]
    if n < FIRST_EVALUATION:
        return [f"out/{{n % DATA}}", f"out/{{DATA + n % DATA}}"]
    if n < LAST:
        return [f"out/{{n - STUDENTS}}"]
    return expand("out/{{n}}", n=range(FIRST_EVALUATION, LAST))


rule all:
    input: expand("out/{{n}}", n=range({jobs}))
rule stage:
    input: upstream
    output: "out/{{n}}"
    resources: mem_mb=100, runtime=10
    shell: "touch {{output}}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"stages of the workflow, at least {FEWEST_JOBS} ({JOBS})")
    parser.add_argument("--nodes", type=int, default=NODES, help=f"nodes of the cluster ({NODES})")
    parser.add_argument("--baseline-python", type=Path, default=Path(".venv-baseline/bin/python"))
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if arguments.jobs < FEWEST_JOBS:
        parser.error(f"--jobs {arguments.jobs}: expected at least {FEWEST_JOBS}")
    executor.SNAKEFILE = SNAKEFILE
    executor.FLAGS["pools"] = ["--executor", "submitit", "--set-resources", "stage:pool=4"]
    ctypes.CDLL(None).prctl(executor.PR_SET_CHILD_SUBREAPER, 1)
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    pythons = executor.pythons_of(arguments.baseline_python)
    rows = []
    try:
        with running_cluster(num_nodes=arguments.nodes, cpus=1) as cluster:
            for name in (name for name in ("pools", "submitit", "slurm") if name in pythons):
                if arguments.jobs > WARM_UP:  # byte code, page cache
                    executor.run_snakemake(cluster, name, pythons[name], jobs=WARM_UP, in_flight=WARM_UP)
                rows.append(executor.run_snakemake(cluster, name, pythons[name], jobs=arguments.jobs, in_flight=IN_FLIGHT))
                print(json.dumps(asdict(rows[-1])), flush=True)
    finally:
        machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[1]:.1f} (5 min), Python {platform.python_version()}"
        rows_json = [asdict(row) for row in rows]
        results = {"nodes": arguments.nodes, "machine": machine, "slurm": executor.slurm_version(), "rows": rows_json}
        if arguments.write and rows:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
