"""What the documents say must be so: links, YAML, commands."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spikedistill.cli import _parser
from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config
from spikedistill.plan.build import build_plan

ROOT = Path(__file__).parents[2]
AT_THE_ROOT = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "cluster/README.md"]
DOCUMENTS = [*(ROOT / name for name in AT_THE_ROOT), *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(document.relative_to(ROOT)) for document in DOCUMENTS]


def _blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _commands(document: Path, program: str, *, mentioned: bool = False) -> list[list[str]]:
    """The words of every command of a program in a document: in its shell blocks, or mentioned in its text as `code`."""
    text = document.read_text(encoding="utf-8")
    blocks = "\n".join(_blocks(document, "sh")).splitlines()
    lines = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```$", "", text)) if mentioned else blocks
    return [shlex.split(line, comments=True) for line in lines if re.match(rf"{program}\s", line)]


def _project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_relative_links_lead_to_files(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_yaml_blocks_are_yaml(document):
    for block in _blocks(document, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)


def test_yaml_of_the_readme_is_a_valid_configuration():
    (example,) = _blocks(ROOT / "README.md", "yaml")
    assert len(build_plan(parse_config(yaml.safe_load(example))).rows) == 1 + 2 * 2  # teacher; two methods, two seeds


def test_first_command_stands_before_line_20():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines.index("make demo") + 1 < 20
    assert len(lines) <= 200


def test_make_targets_of_the_documents_exist():
    named = {
        words[1]
        for document in DOCUMENTS
        for mentioned in (True, False)
        for words in _commands(document, "make", mentioned=mentioned)
    }
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "quick", "test", "check", "docs", "generate"} <= named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_commands_in_blocks_are_what_the_program_takes(document, capsys):
    for words in _commands(document, "spikedistill"):
        try:
            _parser().parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"{' '.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_commands_mentioned_in_text_have_a_help(document, capsys):
    for name in {words[1] for words in _commands(document, "spikedistill", mentioned=True)}:
        with pytest.raises(SystemExit) as ended:
            _parser().parse_args([name, "--help"])
        assert ended.value.code == 0, f"{name}: {capsys.readouterr().err}"


def test_commands_of_the_readme_name_stages_of_the_demo():
    plan = build_plan(parse_config(read_config([ROOT / "config.yaml"])))
    named = [words[2] for words in _commands(ROOT / "README.md", "spikedistill") if words[1] in ("submit", "run", "logs")]
    assert {plan.find(name).stage for name in named} == {"distill"}


def test_profiles_and_environments_of_the_documents_exist():
    commands = [
        command
        for document in DOCUMENTS
        for mentioned in (True, False)
        for command in _commands(document, "snakemake", mentioned=mentioned)
    ]
    profiles = {command[command.index("--profile") + 1] for command in commands if "--profile" in command}
    assert {"cluster", "cluster/local"} <= profiles
    assert all((ROOT / profile / "config.yaml").is_file() for profile in profiles)


def test_every_dependency_is_pinned_within_its_range():
    project = _project(ROOT)
    ours = {_project(file.parent)["name"] for file in (ROOT / "pyproject.toml", *ROOT.glob("src/*/pyproject.toml"))}
    text = (ROOT / "envs" / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    for line in [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]:
        requirement = Requirement(line)
        if requirement.name in ours:
            continue
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), line


def test_citation_has_the_version_and_licence_of_the_package():
    project = _project(ROOT)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]
