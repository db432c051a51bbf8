"""Options that take several words leave names alone; output in any encoding."""

import subprocess
import sys
from pathlib import Path

import pytest

from slurm_lab.running import environment
from spikedistill.cli import _parser


@pytest.mark.parametrize(
    ("line", "files", "overrides", "names"),
    [
        ("logs --configfile a.yaml NAME", ["a.yaml"], [], ["NAME"]),
        ("logs --configfile a.yaml b.yml NAME other-1a2b", ["a.yaml", "b.yml"], [], ["NAME", "other-1a2b"]),
        ("logs NAME --configfile a.yaml b.yaml", ["a.yaml", "b.yaml"], [], ["NAME"]),
        ("logs --configfile a.yaml --configfile b.yaml NAME", ["a.yaml", "b.yaml"], [], ["NAME"]),
        ("logs --configfile=a.yaml NAME", ["a.yaml"], [], ["NAME"]),
        ("logs --configfile odd NAME", ["odd"], [], ["NAME"]),
        ("logs --config seeds=[0] width=2 NAME", None, ["seeds=[0]", "width=2"], ["NAME"]),
        ("logs --config a=1 --configfile a.yaml NAME -f", ["a.yaml"], ["a=1"], ["NAME"]),
        ("logs NAME --config a=1", None, ["a=1"], ["NAME"]),
        ("logs --config a=1 -- b=2", None, ["a=1"], ["b=2"]),
        ("logs -f b=2.yaml", None, [], ["b=2.yaml"]),
    ],
)
def test_files_overrides_and_names_are_told_apart(line, files, overrides, names):
    options = _parser().parse_args(line.split())
    assert options.configfile == (None if files is None else list(map(Path, files)))
    assert (options.config, options.names) == (overrides, names)


def test_resources_of_submit_and_the_name_of_the_stage():
    options = _parser().parse_args(["submit", "--set", "nodes=2", "mem_mb=900", "NAME", "--dry-run"])
    assert (options.set, options.names) == (["nodes=2", "mem_mb=900"], ["NAME"])


@pytest.mark.slow
def test_a_text_that_the_terminal_cannot_show_is_written_in_another_way(tmp_path):
    variables = environment(PYTHONIOENCODING="iso-8859-1")
    done = subprocess.run(
        [Path(sys.executable).with_name("spikedistill"), "list", "neurons"], cwd=tmp_path, env=variables, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"lif" in done.stdout and b"Traceback" not in done.stderr
