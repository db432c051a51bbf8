"""Code that is edited between submission and start: the job says so before it computes anything."""

import shutil
import subprocess

import pytest

from slurm_lab.running import environment
from tests.workflow.project import ROOT, copy_project

LATER = "--begin=now+20"
COMMANDS = {
    "submit": ["spikedistill", "submit", "data/digits-dvs-", "--wait", "--set", f"slurm_extra={LATER}"],
    "snakemake": ["snakemake", "--profile", "cluster", "--retries", "0", "--set-resources", f"preprocess:slurm_extra={LATER}"],
}
SAYS = {
    "submit": ("data.store (version 1 when planned, edited, ", "Nothing was computed"),
    "snakemake": ("configuration or code was changed after this job was submitted", "code: data.store is edited"),
}


@pytest.mark.parametrize("way", COMMANDS)
def test_the_job_says_what_was_edited(slurm_cluster, tmp_path, way):
    folder = copy_project(tmp_path / "project")
    package = tmp_path / "src" / "spikedistill"
    shutil.copytree(ROOT / "src/spikedistill", package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [*COMMANDS[way]]
    variables = environment(**slurm_cluster.environment, PYTHONPATH=str(package.parent))
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "job " in line.lower() and not (package / "data/store.py.orig").exists():
                shutil.copyfile(package / "data/store.py", package / "data/store.py.orig")
                with (package / "data/store.py").open("a") as stream:
                    stream.write("\nEDITED = True\n")
    told = (
        "".join(lines)
        + "".join(log.read_text() for log in folder.rglob("*.log"))
        + "".join(log.read_text() for log in folder.rglob(".snakemake/submitit/**/*.out"))
    )
    assert process.returncode == 1, told
    for words in SAYS[way]:
        assert words in told
    assert not list(folder.glob("store/data/*/manifest.json"))
