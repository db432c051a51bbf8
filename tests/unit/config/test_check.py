import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config, read_resolved, write_resolved
from spikedistill.config.schema import SCHEMA_FILE, config_schema
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from tests.unit.config import fuzz_config

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
    assert {stage: stages.count(stage) for stage in stages} == {"preprocess": 2, "teacher": 2, "distill": 12, "evaluate": 14}


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
        ("experiments/digits/baseline", "tat", "digits.baseline: unknown method 'tat'. Did you mean 'tet'?"),
        ("experiments/digits/baseline", ["kd", "tat"], "digits.baseline: unknown method 'tat'. Did you mean 'tet'?"),
        ("experiments/digits/baseline", ["kd", "kd"], "digits.baseline: each method may appear once; found 'kd' 2 times"),
        ("experiments/digits/baseline", [], "list should have at least 1 item"),
        ("seeds", [0, 0], "seeds: each seed may appear once"),
        ("seeds", [0, 0.0], "seeds: each seed may appear once; found [0, 0.0]"),
        ("seeds", ["1", "01"], "seeds: each seed may appear once"),
        ("experiments/digits/student/time_steps", True, "digits.student.time_steps: a number is expected; found True"),
        ("experiments/digits/student/train/clip_grad_norm", False, "clip_grad_norm: a number is expected; found False"),
        ("seeds", [True, 2], "seeds.0: a number is expected; found True"),
        ("experiments/digits/teacher/seed", True, "seed: a number is expected; found True"),
        ("experiments/digits/teacher/classes", [True, False], "classes.0: a number is expected; found True"),
        ("evaluate", {"corruptions": {"noise": [0.1, True]}}, "noise.1: a number is expected; found True"),
        ("experiments/digits/methods/kd", None, "methods.kd: a section of keys is expected, {} for an empty one; found nothing"),
        ("experiments/digits/student/train", 3, "student.train: a section of keys is expected, {} for an empty one; found 3"),
        ("store", "~nosuchuser/x", "store: ~nosuchuser: no such user on this machine"),
        ("results", "a\0b", "results: a path has no null character"),
        ("store", "", "store: string should have at least 1 character"),
        ("seeds", [], "seeds: list should have at least 1 item"),
        ("seeds", [2**70], "seeds.0: input should be less than 9223372036854775808"),
        ("seeds", [-1], "seeds.0: input should be greater than or equal to 0"),
        ("experiments/a b", CONFIG["experiments"]["digits"], "a label is up to 64 letters, digits"),
        ("experiments/digits\n", CONFIG["experiments"]["digits"], "a label is up to 64 letters, digits"),
        (f"experiments/{'x' * 300}", CONFIG["experiments"]["digits"], "a label is up to 64 letters, digits"),
        ("experiments/digits/methods/kd\n", {"method": "kd"}, "a label is up to 64 letters, digits"),
        ("experiments/digits/student/train/lr", float("inf"), "student.train.lr: input should be a finite number"),
        ("experiments/digits/student/neuron/alpha", float("inf"), "student.neuron.alpha: input should be a finite number"),
        ("experiments/digits/methods/kd/params/alpha", float("inf"), "params.alpha: input should be a finite number"),
        ("engine/rank_timeout_minutes", float("inf"), "engine.rank_timeout_minutes: input should be a finite number"),
        (
            "experiments/digits/student/train/batch_size",
            1e40,
            "student.train.batch_size: unable to parse input string as an integer",
        ),
        ("experiments/digits/student/train/batch_size", 10**9, "train.batch_size: input should be less than or equal to 1048576"),
        ("experiments/digits/student/together", [[1, 2]], "student.together: unknown key 'together'"),
        ("experiments/digits/together", [[1, 2]], "digits.together.0.0: input should be a valid string"),
        (
            "experiments/digits/dataset/inputs",
            {"decode": "fast"},
            "digits.dataset.inputs.decode: 'fast' is for images that stay in files; these samples are decoded when",
        ),
        ("experiments/digits/dataset/root", "~nosuchuser/x", "digits.dataset.root: Could not determine home directory"),
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


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("student/train/decay", "all", "student.train.decay: 'decay' is called weight_decay_on now"),
        ("student/train/schedule", "cosine", "student.train.schedule: a section is expected: {name: cosine}"),
        ("student/neuron/fires", "above", "student.neuron.fires: 'fires' is called spike_at_threshold now: true for"),
        ("student/divide_by_steps", True, "student.divide_by_steps: 'divide_by_steps' is called scale_grad_by_steps now"),
    ],
)
def test_the_former_name_of_a_key_is_answered_with_the_new_one(path, value, message):
    config = changed("experiments/digits/student/train", {"epochs": 1, "batch_size": 64})
    place = config["experiments"]["digits"]
    *parents, last = path.split("/")
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    with pytest.raises(ConfigError) as caught:
        parse_config(config)
    assert message in str(caught.value)


def test_all_mistakes_are_reported_at_once():
    config = changed("experiments/digits/student/time_steps", 0)
    config["store_"] = "x"
    config["experiments"]["digits"]["methods"]["kd"]["params"] = {"alpha": -1}
    with pytest.raises(ConfigError, match="3 problems"):
        parse_config(config)


def test_combinations_are_checked_in_the_same_run_as_single_keys():
    config = changed("experiments/digits-dvs/student/time_steps", 6)
    config["experiments"]["digits"]["student"]["time_steps"] = 0
    config["store_"] = "x"
    with pytest.raises(ConfigError) as caught:
        parse_config(config)
    assert "must equal the number of event frames, 4" in str(caught.value)
    assert "3 problems" in str(caught.value)


def test_too_many_runs_are_refused_before_they_are_written_out():
    many = {f"m{i}": {"method": "kd"} for i in range(300)}
    config = {**CONFIG, "experiments": {f"e{i}": {**CONFIG["experiments"]["digits"], "methods": many} for i in range(300)}}
    with pytest.raises(ConfigError, match="the configuration makes 180000 runs, more than 20000; 600 of them here"):
        parse_config(config)
    config = changed("experiments/digits/student/train", {"epochs": 1, "batch_size": 64, "lr": [i + 1 for i in range(311)]})
    config["experiments"]["digits"]["methods"]["kd"]["params"] = {"alpha": [i + 1 for i in range(311)]}
    with pytest.raises(ConfigError, match=r"more than 20000; 194064 of them here"):
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
    assert written == json.loads(json.dumps(config_schema())), "stale: run `make generate`"
    jsonschema.validate(CONFIG, written)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed("experiments/digits/dataset/name", "digit"), written)


def test_mutated_configurations_are_planned_or_refused():
    counts = fuzz_config.fuzz(300, seed=2)
    assert counts["wrong"] == 0
    assert counts["planned"] > 0
    assert counts["refused"] > 0


def test_store_and_results_may_be_in_a_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = parse_config({**changed("store", "~/s"), "results": "~/r"})
    assert (config.store, config.results) == ("/home/me/s", "/home/me/r")


def test_the_resolved_configuration_is_read_as_it_was_written(tmp_path):
    values = {**changed("store", "s𠮷 ä \u2028\x85\xa0"), "results": "r"}
    write_resolved(values, tmp_path / "config.json")
    assert read_resolved(tmp_path / "config.json") == parse_config(values)


def test_a_fault_of_a_section_is_told_without_the_section():
    with pytest.raises(ConfigError) as caught:
        parse_config(changed("experiments/digits/student/train/mix_probability", 0.5), source="mine.yaml")
    (line,) = str(caught.value).splitlines()[1:]
    assert line.endswith("digits.student.train: mix_probability has no effect without mixup or cutmix; set one of them")


def test_booleans_hide_no_other_problem_of_their_section():
    with pytest.raises(ConfigError) as caught:
        parse_config(
            changed("experiments/digits/student", {"arch": "resnet8", "time_steps": True, "tme": 2, "train": {"epochs": False}})
        )
    said = str(caught.value)
    assert "digits.student.time_steps: a number is expected; found True" in said
    assert "digits.student.train.epochs: a number is expected; found False" in said
    assert "unknown key 'tme'" in said
    assert "train.batch_size: is required" in said


def test_one_time_step_has_no_latency():
    config = changed("experiments/digits/student/time_steps", 1)
    config["experiments"]["digits"]["student"]["encoding"] = "latency"
    with pytest.raises(ConfigError, match=r"student\.encoding: with one time step, latency gives every pixel"):
        parse_config(config)
