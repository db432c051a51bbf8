"""What we depend on can be imported, all of it together, in the versions that are pinned; and all of it is pinned."""

import contextlib
import importlib.util
import itertools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OLDEST_PYTHON = "3.11.2"  # Debian 12's
PROJECTS = [ROOT, ROOT / "src" / "snakemake-executor-plugin-submitit"]

# The modules of each dependency that users of this project reach for, directly or through us.
MODULES = {
    "torch": "torch torch.distributed torch.utils.data torch.utils.tensorboard torch.utils.checkpoint torch.nn.parallel torch.fx",
    "torchvision": "torchvision torchvision.datasets torchvision.models torchvision.transforms.v2 torchvision.io torchvision.ops",
    "torchaudio": "torchaudio torchaudio.datasets torchaudio.transforms",
    "spikingjelly": "spikingjelly spikingjelly.activation_based spikingjelly.datasets spikingjelly.visualizing",
    "submitit": "submitit submitit.helpers submitit.core.utils",
    "snakemake": "snakemake snakemake.api snakemake.cli snakemake.utils snakemake.report",
    "snakemake-executor-plugin-submitit": "snakemake_executor_plugin_submitit",
    "snakemake-storage-plugin-fs": "snakemake_storage_plugin_fs",
    "snakemake-interface-common": "snakemake_interface_common.exceptions",
    "snakemake-interface-executor-plugins": "snakemake_interface_executor_plugins.settings",
    "snakemake-interface-logger-plugins": "snakemake_interface_logger_plugins",
    "tensorboard": "tensorboard tensorboard.program tensorboard.plugins.hparams tensorboard.summary.writer.event_file_writer",
    "pyyaml": "yaml",
    "pydantic": "pydantic",
    "pillow": "PIL.Image",
    "scipy": "scipy scipy.io scipy.stats",
    "safetensors": "safetensors safetensors.torch safetensors.numpy",
    "numpy": "numpy",
    "scikit-learn": "sklearn.datasets",
    "matplotlib": "matplotlib.pyplot",
    "tabulate": "tabulate",
    "tqdm": "tqdm.auto",
    "simplejpeg": "simplejpeg",
    "numba": "numba",
    "isal": "isal.isal_zlib isal.igzip",
    "pygments": "pygments.lexers pygments.formatters",
    "rich": "rich.console rich.live rich.table rich.text",
    "argcomplete": "argcomplete",
    "mlxtend": "mlxtend",
    "timm": "timm timm.models",
    "aedat": "aedat",
    "dv-processing": "dv_processing",
    "h5py": "h5py",
    "hdf5plugin": "hdf5plugin",
    "nir": "nir",
    "nirtorch": "nirtorch",
    "spikingjelly[nir]": "spikingjelly.activation_based.nir_exchange",
    "mkdocs": "mkdocs.commands.build",
    "mkdocs-material": "material",
    "mkdocstrings": "mkdocstrings mkdocstrings_handlers.python",
    "pytest": "pytest",
    "pytest-xdist": "xdist",
    "pytest-timeout": "pytest_timeout",
    "hypothesis": "hypothesis",
    "mypy": "mypy.api",
    "snakefmt": "snakefmt",
    "nbclient": "nbclient",
    "nbformat": "nbformat",
    "ipykernel": "ipykernel.kernelapp",
    "norse": "norse.torch",
    "snntorch": "snntorch snntorch.import_nir snntorch.functional",
}
PROGRAMS_AND_STUBS = {"ruff", "types-pyyaml", "types-tabulate", "types-tqdm"}
PINNED_BY_TORCH = re.compile(r"(nvidia|cuda)-")

PROGRAM = """\
import importlib, sys, traceback, warnings
failed = False
for name in sys.argv[1:]:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            importlib.import_module(name)
        problems = [str(each.message) for each in caught if "Failed to load" in str(each.message)]
    except BaseException:
        problems = [traceback.format_exc().strip()]
    for problem in problems:
        failed = True
        print(f"import {name}: {problem}")
sys.exit(failed)
"""


def _table(project):
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(project):
    """What a project of the checkout names, for all of its extras."""
    table = _table(project)
    return [*map(Requirement, itertools.chain(table["dependencies"], *table["optional-dependencies"].values()))]


def required(distribution, extras):
    """What an installed distribution requires here, for some of its extras."""
    try:
        lines = requires(distribution) or []
    except PackageNotFoundError:  # of another platform, or another Python
        return []
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [r for r in map(Requirement, lines) if r.marker is None or any(r.marker.evaluate(each) for each in environments)]


def submodules(package):
    """The public modules of a package, without importing them."""
    spec = importlib.util.find_spec(package.partition(".")[0])
    assert spec is not None and spec.origin is not None, f"{package} is not installed"
    folder = Path(spec.origin).parent.joinpath(*package.split(".")[1:])
    found = [*folder.glob("[a-z]*.py"), *(init.parent for init in folder.glob("[a-z]*/__init__.py"))]
    return sorted(f"{package}.{path.stem}" for path in found if path.stem != "examples")


def check_imports(modules):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *modules], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("distribution", MODULES)
def test_its_public_modules_can_be_imported(distribution):
    check_imports(MODULES[distribution].split())


@pytest.mark.parametrize("package", ["spikingjelly.datasets", "spikingjelly.activation_based"])
def test_each_module_of_spikingjelly_can_be_imported(package):
    modules = submodules(package)
    assert len(modules) > 10
    check_imports(modules)


def test_every_direct_dependency_is_imported_above():
    named = {canonicalize_name(requirement.name) for project in PROJECTS for requirement in declared(project)}
    assert named - {"spikedistill"} - set(MODULES) == PROGRAMS_AND_STUBS


def pins():
    lines = (ROOT / "envs" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


def test_pinned_versions_run_on_the_oldest_python_that_is_common():
    asked = {}
    for name in pins():
        with contextlib.suppress(PackageNotFoundError):  # an extra that is not installed
            asked[name] = metadata(name)["Requires-Python"] or ""
    assert "pymdown-extensions" in asked
    assert [name for name, versions in asked.items() if OLDEST_PYTHON not in SpecifierSet(versions)] == []


def test_the_table_of_drivers_starts_with_what_is_pinned():
    names = ["torch", "torchvision", "torchaudio"]
    rows = [
        line.strip("|").split("|") for line in (ROOT / "envs" / "README.md").read_text("utf-8").splitlines() if line[:1] == "|"
    ]
    header = next(index for index, row in enumerate(rows) if row[0].strip() == "torch")
    assert [cell.strip() for cell in rows[header][:3]] == names
    assert [cell.strip("* ") for cell in rows[header + 2][:3]] == [pins()[name] for name in names]


def test_everything_that_is_installed_with_us_is_pinned():
    pinned = set(pins())
    waiting = [requirement for project in PROJECTS for requirement in declared(project)]
    reached = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, *requirement.extras) not in reached:
            reached.add((name, *requirement.extras))
            waiting += required(name, requirement.extras)
    names = {name for name, *_ in reached}
    ours = {_table(project)["name"] for project in PROJECTS}
    assert {each for each in names - pinned - ours if not PINNED_BY_TORCH.match(each)} == set()
    assert {"torchaudio", "mpmath", "greenlet", "mkdocs-autorefs"} <= names
