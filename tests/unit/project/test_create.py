"""`spikedistill init`: what it writes, and that it replaces nothing."""

import re
from pathlib import Path

import pytest

from spikedistill import plugins
from spikedistill.cli import main
from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.project import SNAKEFILE, create
from spikedistill.project.create import create_project
from spikedistill.project.files import ROOT, recipes

CHECKOUT = Path(__file__).parents[3]


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def entries(folder):
    return [path.name for path in Path(folder).iterdir()]


def stages(file):
    return set(build_plan(parse_config(read_config([file]))).stages)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    plugins.activate([])


def test_in_a_checkout_the_workflow_is_the_checkouts():
    assert ROOT == CHECKOUT
    assert Path(SNAKEFILE) == CHECKOUT / "Snakefile"


def test_a_project_has_the_workflow_its_profiles_and_a_place_for_plugins():
    create_project(Path("new"))
    assert listing(Path("new")) == [
        ".gitignore",
        "Snakefile",
        "cluster/config.yaml",
        "cluster/local/config.yaml",
        "cluster/multi-node/config.yaml",
        "cluster/preemptible/config.yaml",
        "cluster/workstation/config.yaml",
        "config.schema.json",
        "config.yaml",
        "plugins/README.md",
        *(f"plugins/{room}/.gitkeep" for room in sorted(plugins.ROOMS)),
    ]
    assert entries(".") == ["new"]
    first = Path("new/config.yaml").read_text().splitlines()[0]
    assert (Path("new") / first.partition("$schema=")[2]).is_file()


@pytest.mark.parametrize("recipe", [None, *recipes()])
def test_its_plan_is_that_of_the_configuration_that_it_starts_from(recipe, monkeypatch):
    folder = create_project(Path("new"), recipe)
    original = recipes()[recipe] if recipe else ROOT / "config.yaml"
    monkeypatch.chdir(folder)
    for experiment in read_config([original])["experiments"].values():
        Path(experiment["dataset"].get("root") or ".").mkdir(parents=True, exist_ok=True)
    assert stages(Path("config.yaml")) == stages(original)
    text = Path("config.yaml").read_text()
    assert "plugins: [./plugins]" in text
    assert "workflow/recipes" not in text
    assert "../" not in text


def test_a_file_of_plugins_is_found(monkeypatch):
    monkeypatch.chdir(create_project(Path("new")))
    parse_config(read_config([Path("config.yaml")]))
    assert [source.folder.name for source in plugins.sources()] == ["spikedistill", "plugins"]


def test_an_existing_folder_keeps_what_it_has():
    folder = Path("mine")
    (folder / ".git").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    create_project(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert {"Snakefile", "config.yaml", "notes.txt"} <= set(listing(folder))
    assert not [name for name in entries(folder) if name.endswith(".tmp")]


@pytest.mark.parametrize("name", ["config.yaml", "plugins/mine.py", ".gitignore"])
def test_nothing_is_replaced_and_what_is_there_is_named(name):
    folder = Path("mine")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"mine: has {re.escape(Path(name).parts[0])} already"):
        create_project(folder)
    assert listing(folder) == [name]
    assert (folder / name).read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_replaced():
    Path("mine").mkdir()
    Path("mine/cluster").symlink_to("gone")
    with pytest.raises(ConfigError, match="has cluster already"):
        create_project(Path("mine"))


def test_a_file_is_no_folder():
    Path("file").write_text("mine")
    with pytest.raises(ConfigError, match="file: is a file"):
        create_project(Path("file"))


@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_leaves_nothing_behind(existing, monkeypatch):
    if existing:
        Path("mine").mkdir()
    rename, done = Path.rename, []

    def fail_at_the_third(self, target):
        done.append(target)
        if len(done) == 3 or not existing:
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(create.Path, "rename", fail_at_the_third)
    with pytest.raises(OSError, match="no space left"):
        create_project(Path("mine"))
    assert listing(Path()) == []
    assert entries(".") == (["mine"] if existing else [])


def test_the_command_says_what_comes_next(capsys, caplog):
    assert main(["init", "it's new"]) == 0
    assert "cd 'it'\"'\"'s new'" in capsys.readouterr().out
    assert main(["init", "it's new"]) == 1
    assert "has .gitignore, Snakefile, cluster" in caplog.text


def test_recipes_are_listed_and_a_wrong_name_is_told(capsys, caplog):
    assert main(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes())
    assert "SeAl-KD (arXiv 2605.14252) on CIFAR-10: ResNet-18 taught by ResNet-34, T = 4." in line_of(lines, "cifar10-sealkd")
    assert main(["init", "new", "--recipe", "cifar10-sealkt"]) == 1
    assert "Did you mean 'cifar10-sealkd'?" in caplog.text
    assert main(["init"]) == 1
    assert "spikedistill init my-project" in caplog.text
    assert entries(".") == []


def line_of(lines, name):
    return next(line for line in lines if line.startswith(f"{name} "))


@pytest.mark.parametrize(
    "command",
    [
        ["init", ""],
        ["demo", ""],
        ["export", "x", "--out", ""],
        ["store", "du", "--store", ""],
        ["new", "method", "m", "--plugin", ""],
    ],
)
def test_a_folder_without_a_name_is_not_this_one(command, capsys):
    with pytest.raises(SystemExit):
        main(command)
    assert "expected a folder, found nothing" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
