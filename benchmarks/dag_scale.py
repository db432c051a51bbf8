"""A workflow of 1,000 short stages on a real Slurm cluster of 16 nodes: our executor beside Snakemake's own Slurm plugin.

    python benchmarks/dag_scale.py --baseline-python .venv-baseline/bin/python --write

The workflow has the shape of a comparison: data sets, a teacher on each, students, an evaluation of each, a report; the
commands do nothing. The cluster, the environment of the other plugin and what each figure means are those of executor.py.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks import executor  # noqa: E402
from slurm_lab.cluster import SlurmCluster  # noqa: E402
from tests.slurm.conftest import free_ports  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "dag_scale.json"
NODES = 16
LIMIT_S = 1500  # for each
# {jobs} stages: 10 data sets, 10 teachers, students and their evaluations, a report
SNAKEFILE = """\
DATA, LAST = 10, {jobs} - 1
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
    parser.add_argument("--stages", type=int, default=1000, help="stages of the workflow (1000)")
    parser.add_argument("--baseline-python", type=Path, default=Path(".venv-baseline/bin/python"))
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    executor.SNAKEFILE, executor.LIMIT_S = SNAKEFILE, LIMIT_S
    ctypes.CDLL(None).prctl(executor.PR_SET_CHILD_SUBREAPER, 1)
    root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    cluster = SlurmCluster(root, num_nodes=NODES, cpus=1, port=free_ports(NODES + 2))
    rows = []
    try:
        cluster.start()
        for name, python in (("submitit", Path(sys.executable)), ("slurm", arguments.baseline_python)):
            executor.run_snakemake(cluster, name, python, jobs=23, in_flight=23)  # byte code, page cache
            rows.append(executor.run_snakemake(cluster, name, python, jobs=arguments.stages, in_flight=200))
            print(json.dumps(asdict(rows[-1])), flush=True)
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)
        machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[1]:.1f} (5 min), Python {platform.python_version()}"
        results = {"nodes": NODES, "machine": machine, "slurm": executor.slurm_version(), "rows": [asdict(row) for row in rows]}
        if arguments.write and rows:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
