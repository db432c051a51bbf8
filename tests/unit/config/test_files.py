"""Files and overrides become one configuration; an override changes what it names, and nothing that looked alike."""

from pathlib import Path

import pytest

from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan

CONFIG = Path(__file__).parents[3] / "config.yaml"  # teacher and student share `train` by an alias


def epochs(*files, overrides=()):
    plan = build_plan(parse_config(read_config([CONFIG, *files], overrides)))
    return {
        spec.stage: spec.train.epochs
        for spec in plan.stages.values()
        if getattr(spec, "dataset", "") == "digits" and spec.upstream
    }


def test_an_override_of_the_student_leaves_the_teacher_alone(tmp_path):
    assert epochs() == {"teacher": 12, "distill": 12}
    assert epochs(overrides=["experiments.digits.student.train.epochs=3"]) == {"teacher": 12, "distill": 3}
    assert epochs(overrides=["experiments={digits: {student: {train: {epochs: 3}}}}"]) == {"teacher": 12, "distill": 3}
    (tmp_path / "more.yaml").write_text("experiments: {digits: {student: {train: {epochs: 3}}}}")
    assert epochs(tmp_path / "more.yaml") == {"teacher": 12, "distill": 3}


def test_an_override_reaches_a_label_with_dots(tmp_path):
    (tmp_path / "more.yaml").write_text("experiments: {a.b: {c.d: {e: 1}, c: {f: 2}}}")
    overrides = ["experiments.a.b.c.d.e=3", "experiments.a.b.c.f=4", "experiments.a.new.x=5"]
    found = read_config([tmp_path / "more.yaml"], overrides)
    assert found == {"experiments": {"a.b": {"c.d": {"e": 3}, "c": {"f": 4}}, "a": {"new": {"x": 5}}}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "--config seeds: expected key=value, such as seeds="),
        ("=3", "expected key=value"),
        ("a..b=3", "expected key=value"),
        ("seeds=[", "--config seeds, line 1: expected the node content"),
        ("seeds={a: 1, a: 2}", "--config seeds, line 1: key 'a' appears twice"),
        ("seeds=2020-13-45", "--config seeds, line 1: '2020-13-45' cannot be read as timestamp"),
    ],
)
def test_an_override_that_cannot_be_read_is_named(override, message):
    with pytest.raises(ConfigError) as caught:
        read_config([CONFIG], [override])
    assert message in str(caught.value)
