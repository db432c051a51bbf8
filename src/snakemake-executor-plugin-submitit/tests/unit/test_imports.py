"""The rooms of the plugin import each other in one direction only."""

import ast
import subprocess
import sys
from pathlib import Path

import snakemake_executor_plugin_submitit as plugin

NAME = plugin.__name__
ROOT = Path(plugin.__file__).parent
# a module imports from its own room and from those in the rows below
LAYERS = [
    {"__init__"},
    {"executor"},
    {"pool"},
    {"tracking"},
    {"submission"},
    {"worker"},
    {"request", "job"},
    {"jsonfile", "processes"},
    {"private"},
]
# the settings, at the top, watch the locks before there is an executor
LEVELS = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room(module):
    """The first name below the package: its folder, or a module of the root."""
    return module.split(".")[1] if "." in module else "__init__"


def imported(path):
    """Modules of the plugin that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if (node.module or "").split(".")[0] == NAME:
                for alias in node.names:
                    child = f"{node.module}.{alias.name}"
                    found = ROOT.parent / child.replace(".", "/")
                    yield child if found.is_dir() or found.with_suffix(".py").exists() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == NAME)


def graph():
    modules = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = set(imported(path))
    return modules


def test_every_file_is_in_a_room():
    assert {room(module) for module in graph()} == LEVELS.keys()


def test_imports_go_down_only():
    wrong = [
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if room(module) != room(other) and LEVELS[room(other)] <= LEVELS[room(module)]
    ]
    assert wrong == []


def test_there_is_no_circle():
    modules = graph()
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in modules.get(module, ()):
                visit(other, [*path, module])
            done.add(module)

    for module in modules:
        visit(module, [])


def test_the_plugin_knows_nothing_of_spikedistill_and_needs_no_torch():
    program = f"import sys, {NAME}, {', '.join(graph())}; assert not {{'torch', 'numpy', 'spikedistill'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [path for path in ROOT.rglob("*.py") if "spikedistill" in path.read_text(encoding="utf-8")] == []


def test_importing_the_plugin_loads_nothing_heavy():
    program = (
        f"import sys, {NAME}; print([n for n in ('submitit', 'yaml', 'tabulate', 'snakemake.workflow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
