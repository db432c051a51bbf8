"""docs/extending.md, word for word, with the installed wheels: its files are written and its commands run, in an empty folder."""

import hashlib
import os
import re
import shlex
from pathlib import Path

import pytest

from slurm_lab.running import run
from tests.workflow.project import ROOT

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMPONENTS = sum(text.startswith("# plugins/") for _, text in BLOCKS)


def digests(folder):
    """Every file of a package and its content; compiled ones aside, which Python adds when it imports."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Reader:
    """Somebody who works through the page from top to bottom."""

    def __init__(self, folder, python):
        self.folder, self.bin, self.said = folder, python.parent, {}

    def write(self, text):
        name, _, content = text.partition("\n")
        file = self.folder / name.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")

    def pip(self, *arguments):
        """Run the pip of the tests on the environment, which has none."""
        return run(self.folder, "python", "-m", "pip", "--python", str(self.bin / "python"), *arguments)

    def type(self, line):
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            self.folder = self.folder / words[1]
            return
        if words[0] == "pip":
            done = self.pip(*words[1:], "--no-deps")
        else:
            done = run(self.folder, *words, PATH=os.pathsep.join([str(self.bin), os.environ["PATH"], "/usr/sbin", "/sbin"]))
        self.said.setdefault(line, []).append(done.stdout)
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}"


@pytest.fixture(scope="module")
def reader(installed, tmp_path_factory):
    (site,) = installed.parents[1].glob("lib/python*/site-packages")
    before = digests(site / "spikedistill")
    reader = Reader(tmp_path_factory.mktemp("reader"), installed)
    for language, text in BLOCKS:
        if language == "sh":
            for line in text.splitlines():
                reader.type(line)
        else:
            reader.write(text)
    assert digests(site / "spikedistill") == before
    yield reader
    assert reader.pip("uninstall", "--yes", "my-lab-snn").returncode == 0


def test_the_files_pass_their_contract(reader):
    (said,) = reader.said["spikedistill check-plugin ./plugins"]
    assert COMPONENTS >= 5
    assert f" {COMPONENTS} components checked, " in said
    assert " promises, 0 broken" in said


def test_the_components_are_listed_with_where_they_come_from(reader):
    first, second = reader.said["spikedistill list methods"]
    assert re.search(r"^last-step +plugins +Cross-entropy at every step, and the last step", first, re.MULTILINE)
    assert re.search(r"^kd +spikedistill ", first, re.MULTILINE)
    assert "first-step" not in first
    assert re.search(r"^first-step +my_lab_snn +Cross-entropy at the first time step alone", second, re.MULTILINE)
    assert "widths: [16, 32, 64]" in reader.said["spikedistill list architectures plain3"][0]


def test_the_workflow_runs_to_the_report(reader):
    (said,) = reader.said["snakemake --configfile stripes.yaml --profile cluster/local"]
    assert "guessed: size of plain3" in said
    table = (reader.folder / "results" / "results.md").read_text(encoding="utf-8")
    assert "last-step" in table
    assert "plain3" in table


def test_an_edit_gives_new_ids_to_what_follows_it(reader):
    def refs():
        done = run(reader.folder, str(reader.bin / "spikedistill"), "plan", "--json", "--configfile", "stripes.yaml")
        return re.findall(r'"(?:method|stage)":"(\w[\w-]*)"', done.stdout), done.stdout

    _, before = refs()
    file = Path(reader.folder, "plugins", "distill", "last_step.py")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("inputs.logits[-1]", "inputs.logits[0]"), encoding="utf-8")
    _, after = refs()
    file.write_text(text.replace('"""L = CE', '"""The loss: L = CE'), encoding="utf-8")
    _, with_another_docstring = refs()
    assert [a == b for a, b in zip(before.splitlines(), after.splitlines(), strict=True)] == [True, True, True, False, False]
    assert with_another_docstring == before
    file.write_text(text, encoding="utf-8")


def test_the_installed_plug_in_is_checked_too_and_its_broken_promise_is_named(reader):
    done = run(reader.folder, str(reader.bin / "spikedistill"), "check-plugin", "my_lab_snn")
    assert done.returncode == 1
    assert "T=4: every step or exit of logits gets a gradient" in done.stdout


def test_the_files_pass_the_linters(reader):
    files = [str(path) for path in (reader.folder / "plugins").rglob("*.py")]
    assert len(files) == COMPONENTS
    for command in (("ruff", "check"), ("ruff", "format", "--check")):
        done = run(ROOT, *command, "--config", str(ROOT / "pyproject.toml"), *files)
        assert done.returncode == 0, done.stdout
