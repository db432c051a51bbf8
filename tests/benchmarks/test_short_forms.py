"""Every benchmark runs: in a short form, which shows nothing about speed."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from slurm_lab.requirements import require
from slurm_lab.running import run
from tests.gpu.fake.build import compiler, fake_environment
from tests.workflow.project import ROOT

SHORT = {
    "chunked_shuffle": ["--seeds", "1", "--epochs", "1"],
    "costs": ["--arch", "resnet8", "vggsnn"],
    "jpeg": ["--short", "--only", "original, uint8: torchvision, 1", "original, uint8: exact"],
    "larger_than_memory": ["--limit-mb", "16", "--delay-ms", "0", "--rounds", "1"],
    "lif": ["--batch-size", "1", "--repeats", "1", "--time-steps", "2"],
    "loading": ["--short"],
    "opening": ["--rows", "30000", "--array-gb", "0.1", "--ranks", "2"],
    "plan": ["--runs", "50"],
    "preparing": ["--images", "40", "--rounds", "1", "--storages", "array"],
    "preprocess": ["--short", "--sets", "cifar10-dvs"],
    "status": ["--runs", "50"],
    "rate_memory": ["--arch", "resnet8", "--batch-size", "2", "--time-steps", "2"],
    "train_step": ["--short"],
}
ELSEWHERE = {"executor", "dag_scale", "pending", "neurobench_agreement", "gpu_constants", "mnist5k_tables"}
"""The first three run on a cluster, see tests/slurm; the next needs a package under the GPL, then one a GPU, see test_gpu.py; the
last has its test in tests/docs."""


def test_every_benchmark_has_a_short_form():
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} == {*SHORT, *ELSEWHERE}


@pytest.mark.parametrize("name", SHORT)
def test_it_runs(tmp_path, name):
    arguments = SHORT[name]
    if "--out" in (ROOT / "benchmarks" / f"{name}.py").read_text():
        arguments = [*arguments, "--out", str(tmp_path / "out.json")]
    done = run(ROOT, sys.executable, f"benchmarks/{name}.py", *arguments)
    assert done.returncode == 0, done.stdout[-3000:]
    if "--out" in arguments:
        assert json.loads((tmp_path / "out.json").read_text())["command"]


ON_A_GPU = {
    "lif": ["--short", "--batch-size", "2", "--dtype", "float32", "bfloat16"],
    "train_step": ["--short", "--precision", "bf16", "--engine", "cuda_graph=true"],
}


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is one for the CPU only")
@pytest.mark.parametrize("name", ON_A_GPU)
def test_it_runs_on_a_gpu_which_may_be_a_fake_one(tmp_path, name):
    require("a C compiler", [compiler()], "apt-get install gcc libc6-dev")
    command = [sys.executable, f"benchmarks/{name}.py", "--device", "cuda", *ON_A_GPU[name], "--out", str(tmp_path / "out.json")]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=ROOT, env=fake_environment() | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "out.json").read_text())
    if name == "train_step":
        assert report["cases"][0]["ours"]["notes"] == ["the training step runs as one CUDA graph from here on"]
    else:
        assert [row["graphed"] for case in report["cases"] for row in case["ways"].values()] == [True] * 6


def test_the_counts_of_the_estimates_are_those_of_the_networks():
    done = run(ROOT, sys.executable, "benchmarks/costs.py")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == json.loads((ROOT / "src/spikedistill/plan/costs.json").read_text()), "run costs.py --write"


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_its_documented_commands_have_the_options_that_it_has(file):
    commands = re.findall(rf"^ +\S*python benchmarks/{file.name}(.*)$", file.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        for option in re.findall(r"--[a-z-]+", command):
            assert f'"{option}"' in file.read_text(), f"{file.name} has no {option}"
