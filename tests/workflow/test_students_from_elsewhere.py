"""SpikingJelly's models as students, from the configuration to the report, on real digits; and killed on the way."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from slurm_lab.running import run
from spikedistill import cli
from tests.workflow.project import copy_project, edit_profile

pytestmark = pytest.mark.slow

MODELS = ["sew_resnet18", "spiking_resnet18", "ms_resnet18", "spikformer_ti", "qkformer_10_384", "sdt_8_384"]
METHODS = {"tet": {}, "kd": {}, "sealkd": {}}
SIDE, TRAIN, TEST = 32, 4, 2  # pixels; samples of each class


def digit_files(folder):
    """Write digits as pictures, train/CLASS/NUMBER.png and test/CLASS/NUMBER.png."""
    digits = load_digits()
    for label in range(10):
        for number, row in enumerate(np.flatnonzero(digits.target == label)[: TRAIN + TEST]):
            picture = np.kron(digits.images[row] * 255 // 16, np.ones((SIDE // 8, SIDE // 8))).astype(np.uint8)
            file = folder / ("train" if number < TRAIN else "test") / str(label) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).convert("RGB").save(file)
    return folder


def project(folder, models, methods, *, epochs=1, **engine):
    project_ = copy_project(folder)
    raw = digit_files(folder / "digits")
    train = {"epochs": epochs, "batch_size": 20}
    experiments = {
        name.replace("_", "-"): {
            "dataset": {"name": "image-folder", "root": str(raw), "params": {"side": SIDE}},
            "teacher": {"arch": "resnet8", "train": train},
            "student": {"arch": f"spikingjelly/{name}", "time_steps": 2, "neuron": {"threshold": 0.3}, "train": train},
            "methods": methods,
        }
        for name in models
    }
    (project_ / "config.yaml").write_text(yaml.safe_dump({"seeds": [0], "engine": engine, "experiments": experiments}))
    return project_


def test_six_models_come_to_the_report_with_three_methods_each(tmp_path):
    folder = project(tmp_path / "project", MODELS, METHODS)
    edit_profile(folder, lambda profile: profile["set-resources"]["distill"].update(cpus_per_task=1))  # two at a time
    ended = run(folder, "snakemake", "--profile", "cluster/local")
    assert ended.returncode == 0, ended.stdout[-5000:]
    files = (folder / "store/evaluations").glob("student-*/evaluation.json")
    evaluations = {file.parent.name: json.loads(file.read_text()) for file in files}
    assert len(evaluations) == len(MODELS) * len(METHODS)
    for name, found in evaluations.items():
        assert found["num_samples"] == 10 * TEST and found["operations"]["energy_pj"] > 0, name
        assert found["firing_rate"]["layers"] and 0 < found["firing_rate"]["mean"] < 1, name
        attention = [layer for layer in found["operations"]["layers"] if "matmul" in layer["name"]]
        assert bool(attention) == ("spikformer" in name or "qkformer" in name), name
    assert list((folder / "results").rglob("*.html"))
    [student] = (folder / "store/students").glob("*-spikingjelly-spikformer_ti-kd-*")
    exported = run(folder, "spikedistill", "export", student.name, "--out", "exported")
    assert exported.returncode == 0 and (folder / "exported/weights.safetensors").is_file(), exported.stdout
    refused = run(folder, "spikedistill", "export", student.name, "--out", "graph", "--nir")
    assert "cannot be traced layer by layer for NIR" in refused.stdout and "Traceback" not in refused.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a store with the digits."""
    folder = project(tmp_path_factory.mktemp("prepared"), MODELS[:1], {"tet": {}})
    done = run(folder, "spikedistill", "run", "data/image-folder")
    assert done.returncode == 0, done.stdout
    return folder / "store"


@pytest.fixture(scope="module")
def loaded():
    """What starts processes that have everything loaded, as the workers of a pool do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "spikedistill.stages.distill", "spikingjelly.activation_based.model"])
    return context


@pytest.mark.parametrize("model", MODELS)
def test_a_model_killed_on_the_way_ends_with_the_same_bits(prepared, loaded, tmp_path, model):
    weights = []
    for name, kills in (("unbroken", 0), ("killed", 2)):
        folder = project(tmp_path / name, [model], {"tet": {}}, epochs=3, checkpoint_minutes=0)
        shutil.copytree(prepared, folder / "store")
        for kill in range(kills):
            kill_at_checkpoint(loaded, folder, kill + 1)
        training = started(loaded, folder)
        training.join()
        said = (folder / "output").read_text()
        assert training.exitcode == 0, said[-3000:]
        assert bool(kills) == ("resuming from" in said), said[-3000:]
        [file] = (folder / "store/students").glob("*/weights.safetensors")
        weights.append(load_file(file))
    unbroken, killed = weights
    assert unbroken.keys() == killed.keys()
    assert all(bool((unbroken[key] == killed[key]).all()) for key in unbroken)


def kill_at_checkpoint(loaded, folder, epoch):
    """Start the training, and kill it as soon as it has saved that it is in this epoch or later."""
    training = started(loaded, folder)
    until = time.monotonic() + 120
    while not any(int(file.stem.split("-")[1]) >= epoch for file in (folder / "store/.work").rglob("checkpoints/epoch-*.pt")):
        assert training.is_alive() and time.monotonic() < until
        time.sleep(0.005)
    training.kill()
    training.join()
    assert training.exitcode == -signal.SIGKILL


def started(loaded, folder):
    training = loaded.Process(target=train_student, args=(folder,))
    training.start()
    return training


def train_student(folder):
    """Be `spikedistill run students/image-folder`, whose output is in the folder."""
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.exit(cli.main(["run", "students/image-folder"]))
