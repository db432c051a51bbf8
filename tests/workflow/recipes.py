"""Runs published recipes on small data: `python -m tests.workflow.recipes [NAME …]` rehearses each and prints a table.

The data are a few files in the original formats. What is changed of a recipe stands in `small_override`; with `rehearse: true`
networks are an eighth as wide and train for one epoch.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from slurm_lab.running import run
from spikedistill.data.datasets import cifar10_dvs, n_caltech101
from tests.event_files import cifar10_dvs_files, gesture_files, n_caltech101_files, n_mnist_files
from tests.files import write_files
from tests.image_files import cifar10_pickles, cifar100_pickles, imagenet_train, imagenet_val
from tests.workflow.project import ROOT, copy_project

FROM_PACKAGES = ("digits", "mnist5k")  # data that need no files; their recipes are no paper's
RECIPES = {
    file.stem: file
    for file in sorted((ROOT / "workflow" / "recipes").glob("*.yaml"))
    if not any(data in file.stem for data in FROM_PACKAGES)
}
BATCH_SIZE = 8
WIDE = "dvs128-gesture-plif"  # a rehearsal makes no network of SpikingJelly narrower: what 24 GB are enough for
WIDE_BATCH_SIZE = 4
WIDE_MEMORY = ["--set-resources", *(f"{stage}:gpus_per_node=0" for stage in ("distill", "evaluate")), "evaluate:mem_mb=8000"]
CPUS = 8  # as many as run side by side; small stages mostly start and end


def write_small_data(folder: Path) -> None:
    """A few samples of every dataset, where the recipes look for them."""
    write_files(folder / "data/cifar10/cifar-10-batches-py", cifar10_pickles(per_batch=4))
    write_files(folder / "data/cifar100/cifar-100-python", cifar100_pickles((24, 8)))
    write_files(folder / "data/cifar10-dvs", cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, per_class=3))
    gestures = {"train": [f"user{number:02d}_led" for number in range(1, 8)], "test": ["user24_led"]}
    write_files(folder / "data/dvs128-gesture", gesture_files(gestures))
    write_files(folder / "data/n-mnist", n_mnist_files("Train", per_class=7) | n_mnist_files("Test", per_class=1))
    write_files(folder / "data/n-caltech101", n_caltech101_files(n_caltech101.CLASS_NAMES[-3:], per_class=10))
    images, classes = imagenet_val(count=6)
    in_classes = {f"val/{name}/{Path(file).name}": images[file] for name, file in zip(classes, sorted(images), strict=True)}
    train = {f"train/{name}": content for name, content in imagenet_train(per_class=4).items()}
    write_files(folder / "data/imagenet", in_classes | train)


def small_override(recipe: Path) -> dict[str, Any]:
    """What makes a recipe run on small data: less than a whole download, small batches, one seed, and a rehearsal."""
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    batch_size = WIDE_BATCH_SIZE if recipe.stem == WIDE else BATCH_SIZE
    experiments = {}
    for label, experiment in values["experiments"].items():
        networks = {role: {"train": {"batch_size": batch_size}} for role in ("teacher", "student") if role in experiment}
        experiments[label] = {"dataset": {"params": {"strict": False}}, **networks}
    return {"rehearse": True, "seeds": values["seeds"][:1], "experiments": experiments}


def prepare(folder: Path) -> None:
    """A project with small data, and beside each recipe what makes it run on them."""
    copy_project(folder)
    write_small_data(folder)
    for name, recipe in RECIPES.items():
        (folder / f"small-{name}.yaml").write_text(yaml.safe_dump(small_override(recipe)), encoding="utf-8")


def snakemake(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake with a recipe on small data."""
    files = [f"workflow/recipes/{name}.yaml", f"small-{name}.yaml"]
    return run(folder, "snakemake", "--configfile", *files, *arguments)


def main(names: list[str]) -> int:
    """Rehearse recipes in a folder of its own, one after the other, and print a table."""
    failed = []
    print("| recipe | stages run | seconds | outcome |\n|---|---:|---:|---|", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        for name in names or list(RECIPES):
            start = time.monotonic()
            memory = WIDE_MEMORY if name == WIDE else []
            done = snakemake(folder, name, "--profile", "cluster/local", "--submitit-local-cpus", str(CPUS), *memory)
            stages = re.findall(r"^(?:preprocess|teacher|distill|evaluate|report) +(\d+)$", done.stdout, re.MULTILINE)
            outcome = "done" if done.returncode == 0 else "FAILED"
            print(f"| `{name}` | {sum(map(int, stages))} | {time.monotonic() - start:.0f} | {outcome} |", flush=True)
            if done.returncode != 0:
                failed.append(name)
                print(done.stdout[-6000:], file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
