"""The distribution, built and installed with pip in an empty environment: as a wheel, then as an editable install.

Needs a package index. Versions are those of the environment of the tests.
"""

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from slurm_lab.running import run

PLUGIN = Path(__file__).parents[2]
MAX_SIZE_MB = 250  # 137 MB when this was written, most of it Snakemake's; torch alone is 20 times that
PACKAGES = ("snakemake_executor_plugin_submitit", "snakemake_logger_plugin_lines")
FOREIGN = ("torch", "numpy", "spikedistill")


def pip(python, *arguments):
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("plugin")


@pytest.fixture(scope="module")
def source(root):
    """A copy of the folder outside any checkout."""
    skipped = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist")
    return shutil.copytree(PLUGIN, root / "source", ignore=skipped)


@pytest.fixture(scope="module")
def built(root, source):
    """The wheel and the source distribution."""
    builder = root / "builder"
    venv.create(builder, with_pip=True)
    python = str(builder / "bin" / "python")
    pip(python, "install", "build", "twine")
    done = run(source, python, "-m", "build", "--outdir", str(root / "dist"))
    assert done.returncode == 0, done.stdout
    checked = run(root, python, "-m", "twine", "check", "--strict", *map(str, (root / "dist").iterdir()))
    assert checked.returncode == 0, checked.stdout
    (wheel,), (sdist,) = (root / "dist").glob("*.whl"), (root / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def constraints(root):
    path = root / "constraints.txt"
    lines = {f"{each.name}=={each.version}" for each in importlib.metadata.distributions() if not each.name.startswith(FOREIGN)}
    path.write_text("".join(f"{line}\n" for line in sorted(lines) if not line.startswith("snakemake-executor-plugin")))
    return path


@pytest.fixture(scope="module")
def environment(root, built, constraints):
    """An environment with the wheel, what that requires, and pytest."""
    folder = root / "venv"
    venv.create(folder, with_pip=True)
    pip(folder / "bin" / "python", "install", "--constraint", constraints, built[0])
    return folder


def size_mb(folder):
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def check_flags_and_example(environment, folder):
    """Run what the README says in an empty folder, with only the commands of the environment."""
    folder.mkdir()
    path = f"{environment / 'bin'}:/usr/bin:/bin"
    shown = run(folder, str(environment / "bin" / "snakemake"), "--help", PATH=path, PYTHONPATH="").stdout
    flags = re.findall(r"^\| `(--(?:submitit|logger-lines)-[\w-]+)`", (PLUGIN / "README.md").read_text(), re.MULTILINE)
    assert len(flags) > 10
    assert [flag for flag in flags if flag not in shown] == []
    section = (PLUGIN / "README.md").read_text().partition("\n## Two ranks\n")[2].partition("\n## ")[0]
    (folder / "Snakefile").write_text(section.partition("```snakemake\n")[2].partition("```")[0])
    (command,) = re.findall(r"^snakemake .*$", section, re.MULTILINE)
    program, *arguments = shlex.split(command)
    done = run(folder, str(environment / "bin" / program), *arguments, PATH=path, PYTHONPATH="")
    assert done.returncode == 0, done.stdout
    assert (folder / "sum.txt").read_text() == "rank 0 of 2\nrank 1 of 2\n"


def module_file(environment, folder):
    program = "import snakemake_executor_plugin_submitit as plugin; print(plugin.__file__)"
    done = run(folder, str(environment / "bin" / "python"), "-c", program, PYTHONPATH="")
    assert done.returncode == 0, done.stdout
    return Path(done.stdout.strip())


def test_the_wheel_holds_the_package_and_the_source_distribution_the_tests_too(built):
    wheel, sdist = built
    package = {str(path.relative_to(PLUGIN)) for name in PACKAGES for path in (PLUGIN / name).rglob("*.py")}
    package |= {f"{name}/py.typed" for name in PACKAGES}
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    assert package == {name for name in in_wheel if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    tests = {str(path.relative_to(PLUGIN)) for path in (PLUGIN / "tests").rglob("*.py")}
    assert in_sdist >= package | tests | {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"}


def test_the_wheel_works_in_an_empty_environment_and_brings_no_torch(environment, root, capsys):
    (site,) = environment.glob("lib/python*/site-packages")
    assert module_file(environment, root).is_relative_to(site)
    assert [name for name in FOREIGN if (site / name).exists()] == []
    size = size_mb(environment)
    with capsys.disabled():
        print(f"\nthe environment of the wheel: {size:.0f} MB")
    assert size < MAX_SIZE_MB
    check_flags_and_example(environment, root / "wheel")


def test_the_tests_of_the_source_distribution_pass_with_the_wheel(environment, built, constraints, root):
    pip(environment / "bin" / "python", "install", "--constraint", constraints, "pytest")
    with tarfile.open(built[1]) as archive:
        archive.extractall(root / "sdist", filter="data")
    (folder,) = (root / "sdist").iterdir()
    for name in PACKAGES:
        shutil.rmtree(folder / name)
    # These two take longest, and tell no more about the wheel than the README's example does
    done = run(
        folder,
        str(environment / "bin" / "pytest"),
        "tests/unit",
        "-q",
        "--ignore=tests/unit/test_local.py",
        "--ignore=tests/unit/test_conformance_local.py",
        PYTHONPATH="",
        PYTEST_ADDOPTS="",
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_an_editable_install_is_a_plain_path_which_snakemake_finds(environment, source, constraints, root):
    pip(environment / "bin" / "python", "install", "--constraint", constraints, "--editable", source)
    (site,) = environment.glob("lib/python*/site-packages")
    assert str(source) in "\n".join(path.read_text() for path in site.glob("*.pth")).splitlines()
    assert module_file(environment, root).is_relative_to(source)
    check_flags_and_example(environment, root / "editable")
