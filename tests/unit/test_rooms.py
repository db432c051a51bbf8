"""The rooms of the package: who may import whom, how many things lie in one, and what is loaded without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "spikedistill"
ORDER = (
    {"cli", "api"},
    {"export", "contract"},
    {"report"},
    {"launch", "stages", "project"},
    {"plan"},
    {"config"},
    {"evaluate"},
    {"train"},
    {"distill"},
    {"models", "data"},
    {"neurons"},
    {"store"},
    {"components"},
    {"plugins"},
    {"lazy", "errors", "cpus"},
)
"""Rooms from the top down; those of one line do not know each other."""
MAX_MODULES = 11
COMPONENTS = [
    PACKAGE / "distill",
    PACKAGE / "data" / "datasets",
    PACKAGE / "models",
    PACKAGE / "train" / "optimizers",
    PACKAGE / "train" / "schedules",
]
"""Folders that have a file for each thing a configuration can name; they grow with what there is."""


def imports(file):
    """Modules of the package that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / "src" / full.replace(".", "/")).with_suffix(".py").is_file()
                yield full if is_module or (ROOT / "src" / full.replace(".", "/")).is_dir() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules():
    return {".".join(file.relative_to(ROOT / "src").with_suffix("").parts): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module):
    return module.split(".")[1] if "." in module else None


def test_every_room_has_its_place():
    there = {entry.stem for entry in PACKAGE.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    assert there - {"__init__"} == set().union(*ORDER)


@pytest.mark.parametrize("name", sorted(set().union(*ORDER)))
def test_a_room_imports_only_what_lies_below_it(name):
    level = {each: i for i, line in enumerate(ORDER) for each in line}
    for module, file in modules().items():
        if room(module) != name:
            continue
        for imported in imports(file):
            other = room(imported) if imported.startswith("spikedistill.") else None
            assert other in (None, name) or level[other] > level[name], f"{module} imports {imported}"
            assert room(imported) != "cli" or name == "cli", f"{module} imports the command line"


def test_no_module_imports_itself_in_a_circle():
    known = modules()
    above = {}

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in above or module not in known:
            return
        for imported in imports(known[module]):
            visit(imported, [*path, module])
        above[module] = True

    for module in known:
        if not module.endswith("__init__"):
            visit(module, [])


def test_no_folder_holds_more_than_a_reader_can_take_in():
    for folder in {file.parent for file in PACKAGE.rglob("*.py")}:
        found = [file.name for file in folder.glob("*.py") if file.name != "__init__.py"]
        if folder in COMPONENTS:
            continue
        assert len(found) <= MAX_MODULES, f"{folder}: {len(found)} modules"


TORCH_FREE = (
    "api.lookup",
    "cli",
    "config.check",
    "config.files",
    "config.reference",
    "config.schema",
    "data",
    "launch.command",
    "launch.doctor",
    "launch.resources",
    "launch.status.collect",
    "launch.status.screen",
    "launch.status.watch",
    "launch.submit",
    "models",
    "plan.build",
    "plan.tables",
    "plan.takeover",
    "plan.uptodate",
    "project.create",
    "project.demo",
    "report.trace",
    "store.artifacts",
    "store.housekeeping",
    "store.transfer",
)


@pytest.mark.parametrize("module", TORCH_FREE)
def test_it_is_imported_without_what_takes_long(module):
    program = f"import spikedistill.{module}, sys; print({{'torch', 'spikingjelly', 'sklearn', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_a_plan_is_made_without_torch():
    program = (
        "import sys, yaml\nfrom spikedistill import cli\nfrom spikedistill.launch import submit\n"
        "from spikedistill.config.check import parse_config\nfrom spikedistill.config.schema import config_schema\n"
        "from spikedistill.plan.build import build_plan\n"
        "build_plan(parse_config(yaml.safe_load(open(sys.argv[1])))); config_schema()\n"
        "print({'torch', 'spikingjelly', 'sklearn', 'submitit', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT / "config.yaml")], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
