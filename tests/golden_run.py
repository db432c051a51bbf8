"""Do results stay the same, to the bit? Trains and measures small networks of every method, here and with another commit's code.

    python tests/golden_run.py                    print a digest of each result
    python tests/golden_run.py --against main     the same with the code of a commit, and compare

For a change that is meant to keep results: if all digests agree, `spikedistill lock --keep MODULE` keeps the ids.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRAIN = {"epochs": 1, "batch_size": 64, "augment": {"crop_padding": 1}}
METHODS = {name: {} for name in ("ce", "tet", "kd", "tdd", "sealkd", "ckdsnn", "esd")}
STUDENT = {"arch": "resnet8", "time_steps": 2, "train": TRAIN}
TEACHER = {"arch": "resnet8", "train": TRAIN}
CONFIG = {
    "seeds": [0],
    "experiments": {
        "images": {"dataset": {"name": "digits"}, "teacher": TEACHER, "student": STUDENT, "methods": METHODS},
        "rate": {
            "dataset": {"name": "digits"},
            "teacher": TEACHER,
            "student": {**STUDENT, "backward": "rate"},
            "methods": {"esd": {}, "kd": {"params": {"logits": "mean"}}},
        },
        "events": {
            "dataset": {"name": "digits-dvs", "params": {"num_frames": 2}},
            "teacher": {**TEACHER, "arch": "resnet8_dvs"},
            "student": {**STUDENT, "arch": "resnet8_dvs"},
            "methods": {"tet": {}, "sealkd": {}},
        },
        "parts": {
            "dataset": {"name": "digits"},
            "teacher": TEACHER,
            "student": STUDENT,
            "methods": {"fitnet": {"params": {"hint": "each"}}, "bkdsnn": {}, "kdsnn": {}},
        },
    },
}
FILES = ("frames.npy", "images.npy", "index.json", "weights.safetensors")
MEASURED = ("accuracy", "accuracy_at_step", "confusion", "firing_rate", "operations", "energy_pj")


def digests() -> dict[str, str]:
    """Run every stage with the code of this process; return a digest of each result, by stage and label instead of id."""
    from spikedistill.config.check import parse_config
    from spikedistill.plan.build import build_plan
    from spikedistill.stages.runner import RunOptions, run_stage
    from spikedistill.store.artifacts import Store

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store, plan = Store(Path(folder, "store")), build_plan(parse_config(_without_what_is_not_there(CONFIG)))
        for ref, spec in plan.stages.items():
            made = run_stage(spec, store, RunOptions(results=Path(folder, "results")))
            content = hashlib.sha256()
            for name in FILES:
                content.update((made / name).read_bytes() if (made / name).is_file() else b"-")
            if (made / "evaluation.json").is_file():
                measured = json.loads((made / "evaluation.json").read_text())
                content.update(json.dumps({key: measured.get(key) for key in MEASURED}).encode())
            found[f"{spec.stage} {len(found)} {ref.partition('/')[2].rpartition('-')[0]}"] = content.hexdigest()[:16]
    return found


def _without_what_is_not_there(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without the experiments whose methods the code of this process does not have: it may be older."""
    from spikedistill import components

    there = set(components.names("distill"))
    return {**config, "experiments": {k: v for k, v in config["experiments"].items() if set(v["methods"]) <= there}}


def digests_of(revision: str) -> dict[str, str]:
    """Run with the code of a commit, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, revision], check=True)
        try:
            path = os.pathsep.join([str(tree / "src"), str(tree / "src/snakemake-executor-plugin-submitit")])
            command = [sys.executable, str(Path(__file__).resolve()), "--json"]
            output = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": path}, check=True, stdout=subprocess.PIPE, text=True
            )
            return json.loads(output.stdout)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="compare with the code of this commit")
    parser.add_argument("--json", action="store_true", help="print the digests as JSON")
    options = parser.parse_args()
    here = digests()
    if options.json:
        print(json.dumps(here))
        return 0
    there = digests_of(options.against) if options.against else here
    for name in sorted(here.keys() | there.keys()):
        same = here.get(name) == there.get(name)
        print(
            f"{'same' if same else 'OTHER':6} {name:50} {here.get(name, 'none')}"
            + ("" if same else f", was {there.get(name, 'none')}")
        )
    return int(here != there)


if __name__ == "__main__":
    sys.exit(main())
