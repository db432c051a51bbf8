import ast
import copy
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config
from spikedistill.config.schema import SCHEMA_FILE, config_schema
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import parse_spec

ROOT = Path(__file__).parents[3]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split("/")
    place = config
    for part in parents:
        place = place[part]
    place[last] = value
    return config


def test_the_shipped_config_is_the_demo():
    plan = build_plan(parse_config(CONFIG))
    stages = [spec.stage for spec in plan.stages.values()]
    assert {stage: stages.count(stage) for stage in stages} == {"preprocess": 2, "teacher": 2, "distill": 8, "evaluate": 10}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "experiments/digits/student/time_step",
            4,
            "digits.student.time_step: unknown key 'time_step'. Did you mean 'time_steps'?",
        ),
        ("experiments/digits/student/neuron/dekay", 1, "student.neuron.dekay: unknown key 'dekay'. Did you mean 'decay'?"),
        ("experiments/digits/teacher/train/epoch", 1, "teacher.train.epoch: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("experiments/digits/methods/kd/params/alfa", 1, "methods.kd.params.alfa: unknown key 'alfa'. Did you mean 'alpha'?"),
        (
            "experiments/digits/methods/kd/params/temperature",
            0,
            "methods.kd.params.temperature: input should be greater than 0; found 0",
        ),
        ("experiments/digits/methods/kdd", {}, "unknown method 'kdd'. Did you mean 'kd'?"),
        ("experiments/digits/dataset/name", "digit", "unknown dataset 'digit'. Did you mean 'digits'?"),
        ("experiments/digits/student/arch", "resnet9", "unknown architecture 'resnet9'. Did you mean"),
        ("experiments/digits/teacher", None, "digits.teacher: method 'kd' distils from a teacher, and none is given"),
        ("experiments/digits-dvs/student/time_steps", 6, "must equal the number of event frames, 4"),
        ("seeds", [0, 0], "seeds: each seed may stand once"),
        ("seeds", [], "seeds: list should have at least 1 item"),
        ("experiments/a b", CONFIG["experiments"]["digits"], "a label is letters, digits"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(path, value, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(path, value), source="mine.yaml")
    assert message in str(caught.value)
    assert "mine.yaml: " in str(caught.value)


@pytest.mark.parametrize(
    ("method", "backward", "arch", "message"),
    [
        (
            "tet",
            "rate",
            "resnet8",
            "needs the logits of every time step, and student.backward: rate has a gradient for their mean",
        ),
    ],
)
def test_a_combination_that_cannot_work_is_refused_with_the_reason(method, backward, arch, message):
    config = changed("experiments/digits/student/backward", backward)
    config["experiments"]["digits"]["methods"] = {method: {}}
    config["experiments"]["digits"]["teacher"]["arch"] = arch
    with pytest.raises(ConfigError, match=message):
        parse_config(config)


def test_all_mistakes_are_reported_at_once():
    config = changed("experiments/digits/student/time_steps", 0)
    config["store_"] = "x"
    config["experiments"]["digits"]["methods"]["kd"]["params"] = {"alpha": -1}
    with pytest.raises(ConfigError, match="3 problems"):
        parse_config(config)


def test_files_and_overrides_merge_key_by_key(tmp_path):
    (tmp_path / "a.yaml").write_text("a: {b: 1, c: 2}\nd: [1]")
    (tmp_path / "b.yaml").write_text("a: {c: 3}\nd: [2]")
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    assert read_config(files, ["a.b=true", "e=text"]) == {"a": {"b": True, "c": 3}, "d": [2], "e": "text"}
    with pytest.raises(ConfigError, match="no such file"):
        read_config([tmp_path / "c.yaml"])
    (tmp_path / "c.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="expected a mapping at the top level, found list"):
        read_config([tmp_path / "c.yaml"])


def test_the_schema_for_editors_is_current_and_accepts_the_shipped_config():
    written = json.loads(SCHEMA_FILE.read_text())
    assert written == json.loads(json.dumps(config_schema())), "stale: run `spikedistill schema --write`"
    jsonschema.validate(CONFIG, written)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed("experiments/digits/dataset/name", "digit"), written)


def test_ids_are_stable():
    config = yaml.safe_load(FIXED)
    refs = list(build_plan(parse_config(config)).stages)
    assert refs == FIXED_REFS


FIXED = """
seeds: [7]
experiments:
  one:
    dataset: {name: digits-dvs, params: {num_frames: 2}}
    teacher: {arch: resnet18, train: {epochs: 3, batch_size: 32}}
    student: {arch: resnet18, time_steps: 2, train: {epochs: 5, batch_size: 16}}
    methods: {kd: {params: {alpha: 0.5}}}
"""
FIXED_REFS = [
    "data/digits-dvs-2281730604",
    "teachers/digits-dvs-resnet18-seed0-7d4444c5a5",
    "evaluations/teacher-digits-dvs-resnet18-seed0-ed7e8f3d59",
    "students/digits-dvs-resnet18-kd-seed7-347a31e7cd",
    "evaluations/student-digits-dvs-resnet18-kd-seed7-d02f2bb04f",
]


def test_a_teacher_is_shared_by_everything_that_asks_for_the_same():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["again"] = changed("experiments/digits/student/time_steps", 2)["experiments"]["digits"]
    plan = build_plan(parse_config(config))
    teachers = {row.model for row in plan.rows if row.method == "teacher"}
    assert len(teachers) == 2
    assert len([r for r in plan.rows if r.method == "teacher"]) == 3


def test_what_changes_a_student_changes_its_id_and_not_the_teachers():
    before = {row.method: row.model for row in build_plan(parse_config(CONFIG)).rows if row.experiment == "digits"}
    after = {
        row.method: row.model
        for row in build_plan(parse_config(changed("experiments/digits/student/neuron/decay", 0.25))).rows
        if row.experiment == "digits"
    }
    assert before["teacher"] == after["teacher"]
    assert before["kd"] != after["kd"]
    assert before["tet"] != after["tet"]


def test_a_spec_survives_its_journey_as_json():
    for spec in build_plan(parse_config(CONFIG)).stages.values():
        assert parse_spec(spec.model_dump_json()) == spec
    with pytest.raises(ConfigError, match="not a stage spec"):
        parse_spec('{"stage": "teacher"}')


def test_stages_are_found_by_the_beginning_of_their_name():
    plan = build_plan(parse_config(CONFIG))
    assert plan.find("digits-resnet8-kd-seed1").seed == 1
    with pytest.raises(ConfigError, match="fits 2 stages"):
        plan.find("digits-resnet8-kd")
    with pytest.raises(ConfigError, match="unknown stage"):
        plan.find("cifar")


def test_config_and_components_import_no_torch():
    program = (
        "import sys, yaml; from spikedistill import cli, submission\n"
        "from spikedistill.config.check import parse_config\nfrom spikedistill.config.schema import config_schema\n"
        "from spikedistill.plan.build import build_plan\n"
        "build_plan(parse_config(yaml.safe_load(open(sys.argv[1])))); config_schema()\n"
        "print({'torch', 'spikingjelly', 'sklearn', 'submitit', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT / "config.yaml")], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


FORBIDDEN = {
    "distill": ("spikedistill.train", "spikedistill.models", "spikedistill.stages", "spikedistill.data"),
    "models": ("spikedistill.train", "spikedistill.stages", "spikedistill.data", "spikedistill.distill"),
    "neurons": ("spikedistill.train", "spikedistill.stages", "spikedistill.data", "spikedistill.models"),
    "data": ("spikedistill.train", "spikedistill.stages", "spikedistill.models", "spikedistill.distill"),
    "train": ("spikedistill.stages", "submitit"),
    ".": ("snakemake_executor_plugin_submitit.executor",),
}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_nobody_imports_against_the_flow(folder):
    package = ROOT / "src/spikedistill"
    for file in (package / folder).rglob("*.py"):
        for name in imported(file):
            assert not name.startswith(FORBIDDEN[folder]), f"{file.name} imports {name}"
            assert name != "spikedistill.cli", f"{file.name} imports the command line"


def test_the_executor_plugin_knows_nothing_of_spikedistill():
    for file in (ROOT / "src/snakemake_executor_plugin_submitit").glob("*.py"):
        assert not [name for name in imported(file) if name.startswith("spikedistill")]


@pytest.mark.parametrize("name", components.names("data.datasets"))
def test_every_dataset_describes_itself(name):
    component = components.load("data.datasets", name)
    meta = component.describe(component.Params())
    assert meta.num_classes > 1
    assert (meta.kind == "frames") == (meta.num_frames is not None)
    assert component.__doc__
    assert isinstance(component.NEEDS_RAW, bool)
