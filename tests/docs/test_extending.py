"""The examples of docs/extending.md: one new file each and an entry in the configuration, and everything works with them."""

import re
import subprocess
from pathlib import Path

import pytest

from slurm_lab.running import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
PARTS = ["Snakefile", "config.yaml", "pyproject.toml", "README.md", "docs", "workflow", "cluster", "envs", "src", "tests"]


def git(folder, *arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", *PARTS]
    for name in filter(None, git(ROOT, *listed).split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "as it was")
    for path, content in FILES.items():
        (folder / path).write_text(content, encoding="utf-8")
    return folder


def go(project, *command):
    return run(project, *command, PYTHONPATH=str(project / "src"))


def test_a_method_a_dataset_and_an_architecture_are_one_new_file_each(project):
    changes = git(project, "status", "--porcelain", "-uall").splitlines()
    assert sorted(changes) == [
        "?? src/spikedistill/data/datasets/stripes.py",
        "?? src/spikedistill/distill/last_step.py",
        "?? src/spikedistill/models/plain.py",
        "?? stripes.yaml",
    ]


def test_the_contract_tests_pick_them_up(project):
    places = ["tests/unit/distill", "tests/unit/data/test_datasets.py", "tests/unit/models"]
    chosen = "(last-step and not stripes) or plain3 or (describes_itself and stripes)"
    done = go(project, "python", "-m", "pytest", "-q", *places, "-k", chosen)
    assert done.returncode == 0, done.stdout[-4000:]
    listed = go(project, "python", "-m", "pytest", "-q", "--collect-only", *places, "-k", chosen).stdout
    for each in ("test_one_step_of_training[last-step", "in_both_roles[plain3]", "describes_itself[stripes]"):
        assert each in listed


@pytest.mark.slow
def test_the_whole_workflow_runs_with_them(project):
    done = go(project, "snakemake", "--configfile", "stripes.yaml", "--profile", "cluster/local")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "guessed: size of plain3" in done.stdout
    table = (project / "results" / "results.md").read_text(encoding="utf-8")
    assert "last-step" in table
    assert "plain3" in table


def test_one_command_puts_them_into_the_tables(project):
    done = go(project, "spikedistill", "generate")
    assert done.returncode == 0, done.stdout
    readme = (project / "README.md").read_text(encoding="utf-8")
    for row in ("| `last-step` | yes | no |", "| `stripes` | image 1×16×16 | 2 | 256 + 64 |", "| `plain3` |"):  # noqa: RUF001
        assert row in readme
    assert go(project, "python", "-m", "pytest", "-q", "tests/docs/test_generated.py").returncode == 0


def test_they_pass_the_linters(project):
    files = [path for path in FILES if path.endswith(".py")]
    assert len(files) == 3
    for command in (("ruff", "check", *files), ("ruff", "format", "--check", *files)):
        done = go(project, *command)
        assert done.returncode == 0, done.stdout
