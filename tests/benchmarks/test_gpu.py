"""The battery for whoever has a GPU: what is recorded, resumed, stopped and installed; once in short on the fake GPU."""

import json
import os
import subprocess
import sys

import pytest
import torch

from benchmarks.gpu import site
from benchmarks.gpu.parts import PARTS, Command, Part
from benchmarks.gpu.records import find_facts, read, write
from benchmarks.gpu.running import Environments, run_part
from slurm_lab.requirements import require
from spikedistill.errors import ConfigError
from spikedistill.plan.costs.gpus import VARIABLE, choose_gpu
from tests.gpu.fake.build import compiler
from tests.workflow.project import ROOT

FACTS = {"gpu": "NVIDIA H100", "torch": "2.15.0", "commit": "1234", "short": False}
ENTRY = {
    "label": "H100",
    "memory_gb": 80,
    "tflops": {"float32": 200, "bf16": 400},
    "bandwidth_gb_s": 2900,
    "launch_us": 12,
    "measured_on": "2026-11-29",
}


def writing(text):
    """A program that writes figures."""
    return f"import sys; open(sys.argv[sys.argv.index('--out') + 1], 'w').write({text!r})"


def run_programs(*programs, minutes=1.0, known=None):
    """Run a part whose commands are small programs; return whether it ended well, and the results."""
    commands = tuple(Program(str(number), program) for number, program in enumerate(programs))
    environment, kept = dict(os.environ), {}
    environments = Environments(environment, environment)
    complete = run_part(Part("part", "", minutes, commands), environments, known or {}, kept.update, limit_s=99, short=False)
    return complete, kept


class Program(Command):
    """A program as it would stand behind Python's -c, which the battery has none of."""

    has_figures = True

    def __init__(self, name, text):
        super().__init__(name, ("-c", text), short=())


def test_figures_are_kept_and_what_fails_says_why():
    complete, found = run_programs(writing('{"a": 1}'), "import sys; print('why'); sys.exit(3)", "print('nothing')")
    assert not complete
    assert found["0"]["figures"] == {"a": 1}
    assert (found["1"]["error"], found["1"]["output"]) == ("ended with status 3", ["why"])
    assert found["2"]["error"] == "wrote no figures"


def test_what_has_ended_well_before_is_not_run_again():
    before = {"0": {"figures": "old"}, "1": {"error": "stopped"}}
    complete, found = run_programs("raise SystemExit(1)", writing("{}"), known=before)
    assert complete
    assert found["0"] == {"figures": "old"}
    assert found["1"]["figures"] == {}


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_stopped_with_what_it_has_started(tmp_path):
    child = tmp_path / "child"
    program = (
        "import subprocess, time, pathlib, sys; p = subprocess.Popen(['sleep', '600']); "
        f"pathlib.Path({str(child)!r}).write_text(str(p.pid)); time.sleep(600)"
    )
    complete, found = run_programs(program, writing("{}"), minutes=0.1)
    assert not complete
    assert found["0"]["error"].startswith("stopped after")
    assert found["1"]["error"].startswith("not started")
    state = subprocess.run(["ps", "-o", "state=", "-p", child.read_text()], capture_output=True, text=True).stdout.strip()
    assert state in ("", "Z")


def test_a_record_counts_for_the_same_gpu_torch_and_commit(tmp_path):
    file, record = tmp_path / "part.json", {"facts": FACTS, "complete": True, "results": {"a": {}}}
    nothing = {"complete": False, "results": {}}
    assert read(file, FACTS) == nothing
    write(file, record)
    assert read(file, FACTS) == record
    for key in FACTS:
        assert read(file, FACTS | {key: "other"}) == nothing
    file.write_text("{")
    assert read(file, FACTS) == nothing


def test_figures_of_a_site_are_added_to_those_that_it_has(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "site" / "gpus.json"))
    with pytest.raises(ConfigError, match="nothing was measured yet"):
        site.install(tmp_path)
    record = {"results": {"constants": {"figures": {"gpus": {"h100": ENTRY}}}}}
    assert site.save(record, tmp_path) == tmp_path / "gpus.json"
    site.install(tmp_path)
    assert choose_gpu(None, None).described == "H100 (measured 2026-11-29)"
    site.save({"results": {"constants": {"figures": {"gpus": {"l40s": ENTRY | {"label": "L40S"}}}}}}, tmp_path)
    site.install(tmp_path)
    assert choose_gpu("l40s", None).label == "L40S"
    assert choose_gpu("h100", None).flops["bf16"] == 4e14


def test_parts_have_names_of_their_own_and_run_what_is_there():
    assert len({part.name for part in PARTS}) == len(PARTS)
    for part in PARTS:
        assert part.minutes < 10
        for command in part.commands:
            assert not command.has_figures or (ROOT / command.script[0]).is_file()


def battery(*arguments):
    return subprocess.run([sys.executable, "-m", "benchmarks.gpu", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = battery()
    assert done.returncode == 1
    assert "no GPU" in done.stderr
    assert "--fake" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is one for the CPU only")
def test_it_runs_on_the_fake_gpu_and_continues_where_it_was_interrupted(tmp_path):
    require("a C compiler", [compiler()], "apt-get install gcc libc6-dev")
    first = battery("--fake", "--parts", "constants", "--out", str(tmp_path))
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    record = json.loads((tmp_path / "constants.json").read_text())
    assert record["facts"]["gpu"] == "Fake H100"
    assert record["facts"]["short"]
    assert record["results"]["constants"]["figures"]["gpus"].keys() == {"h100"}
    second = battery("--fake", "--parts", "constants", "--out", str(tmp_path))
    assert "constants: done" in second.stdout


def test_facts_name_the_versions(monkeypatch):
    facts = find_facts(os.environ | {"PYTHONPATH": str(ROOT / "src")})
    assert facts["torch"] == torch.__version__
    assert "gpu" in facts or facts["why"]
