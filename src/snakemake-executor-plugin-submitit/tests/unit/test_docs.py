"""docs/executor.md and the README say what the plugin does."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from slurm_lab.running import run
from snakemake_executor_plugin_submitit import ExecutorSettings
from snakemake_executor_plugin_submitit.request.partitions import LIMITS, read_partitions
from snakemake_executor_plugin_submitit.request.resources import NAMES, SBATCH_OPTIONS

PLUGIN = Path(__file__).parents[2]
ROOT = PLUGIN.parents[1]  # of the repository, which a source distribution lacks
DOCUMENT = ROOT / "docs" / "executor.md"
README = (PLUGIN / "README.md").read_text()
TEXT = DOCUMENT.read_text() if DOCUMENT.exists() else ""
in_repository = pytest.mark.skipif(not DOCUMENT.exists(), reason="docs/executor.md is in the repository alone")


def rows(heading, text=TEXT):
    """The cells of the table of a section."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(
    ("text", "heading"),
    [pytest.param(README, "Flags", id="README"), pytest.param(TEXT, "Settings", id="executor.md", marks=in_repository)],
)
def test_every_setting_is_in_the_table_with_its_default(text, heading):
    documented = {code(flag)[0]: default for flag, default, _ in rows(heading, text)}
    fields = {f"--submitit-{field.name.replace('_', '-')}": field for field in dataclasses.fields(ExecutorSettings)}
    assert documented.keys() == fields.keys()
    for flag, field in fields.items():
        default = getattr(ExecutorSettings(), field.name)
        if default is False:
            assert documented[flag] == "off"
        elif default is not None:
            assert documented[flag].strip("`") == (f"{default:g}" if isinstance(default, float) else str(default))


@in_repository
def test_every_resource_is_in_the_table_with_its_option():
    documented = {name: code(options) for names, options, _ in rows("Resources") for name in code(names)}
    assert documented.keys() == NAMES
    for name, option in SBATCH_OPTIONS.items():
        assert f"--{option}" in documented[name], name


@in_repository
def test_the_figures_are_those_of_the_benchmark():
    def measured(name):
        found = json.loads((ROOT / "benchmarks" / "results" / f"executor-{name}.json").read_text())["rows"]
        return {row["contender"]: row for row in found}

    tables = [cells for cells in rows("Compared with snakemake-executor-plugin-slurm") if len(cells) == 5]
    length = len(tables) // 2
    for number, table in (("200", tables[:length]), ("1000", tables[length:])):
        at_once, figures = measured(number), {cells[0]: cells[1:] for cells in table}
        for column, name in enumerate(("bare", "submitit", "pools", "slurm")):
            told = {name: cells[column] for name, cells in figures.items()}
            row = at_once[name]
            assert told["wall time, s"] == f"{row['wall_s']:,.0f}"
            assert told["CPU time of everything, s"] == f"{row['cpu_s']:,.0f}"
            assert told["calls that slurmctld served"] == f"{row['rpcs']:,}"
            if name != "bare":
                assert told["calls of Slurm's commands by the main process"] == f"{sum(row['calls'].values()):,}"
                assert told["main process: CPU time, s"] == f"{row['main_cpu_s'] + row['children_cpu_s']:.1f}"
                assert told["main process: peak memory, MB"] == f"{row['main_mb']:.0f}"
                assert told["last output to Snakemake's exit, s"] == f"{row['exit_lag_s']:.1f}"
    single = measured("overhead")
    walls = [f"{single[name]['wall_s']:.0f} s" for name in ("bare", "submitit", "slurm")]
    assert "10 such jobs took {} as bare jobs, {} with this plugin and {} with the slurm plugin".format(*walls) in TEXT


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path):
    section = README.partition("\n## Two ranks\n")[2].partition("\n## ")[0]
    (tmp_path / "Snakefile").write_text(section.partition("```snakemake\n")[2].partition("```")[0])
    (command,) = re.findall(r"^snakemake .*$", section, re.MULTILINE)
    done = run(tmp_path, *shlex.split(command))
    assert done.returncode == 0, done.stdout
    shown = section.partition("```text\n$ cat sum.txt\n")[2].partition("```")[0]
    assert (tmp_path / "sum.txt").read_text() == shown == "rank 0 of 2\nrank 1 of 2\n"


@in_repository
def test_the_file_of_partitions_is_one_and_its_keys_are_told(tmp_path):
    section = TEXT.partition("\n## Partitions by their limits\n")[2].partition("\n## ")[0]
    path = tmp_path / "limits.yaml"
    path.write_text(section.partition("```yaml\n")[2].partition("```")[0])
    assert [partition.name for partition in read_partitions(path)] == ["short", "long", "gpu"]
    assert set(re.findall(r"`(max_\w+)`", section)) >= LIMITS.keys() - {"max_gpus", "max_mpi_tasks"}
