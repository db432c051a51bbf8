"""A rehearsal has the stages of the real run, small; and what `width` does to a network."""

import pytest
import torch

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.models import build_teacher
from spikedistill.plan.build import build_plan, network_of

VALUES = {
    "seeds": [3],
    "results": "out/results",
    "experiments": {
        "digits": {
            "dataset": {"name": "digits", "inputs": {"resize": {"size": 32, "antialias": True}}},
            "teacher": {"arch": "resnet8", "train": {"epochs": 12, "batch_size": 64, "warmup_epochs": 2}},
            "student": {"arch": "vgg13", "time_steps": 2, "width": 0.5, "train": {"epochs": 9, "batch_size": 64}},
            "methods": {"tet": {}, "kd": {"params": {"alpha": [0.1, 0.2]}}},
        }
    },
}


def test_a_rehearsal_has_the_same_stages_narrow_and_short_and_shares_the_data():
    real = build_plan(parse_config(VALUES))
    small = build_plan(parse_config(VALUES | {"rehearse": True}))
    assert [spec.stage for spec in small.stages.values()] == [spec.stage for spec in real.stages.values()]
    trained = [spec for spec in small.stages.values() if spec.stage in ("teacher", "distill")]
    assert {spec.train.epochs for spec in trained} == {1}
    assert {spec.train.warmup_epochs for spec in trained} == {0}
    teacher, student = trained[0], trained[1]
    assert teacher.network["widths"] == [16, 16, 16]
    assert student.network["stages"][0] == [16, 16]
    assert set(real.stages) & set(small.stages) == {ref for ref in real.stages if ref.startswith("data/")}
    assert small.config.results == "out/results-rehearsal"


def test_the_configuration_that_a_rehearsal_prints_makes_the_same_stages():
    experiment = VALUES["experiments"]["digits"] | {"methods": {"tet": {}}}
    small = build_plan(parse_config(VALUES | {"rehearse": True, "experiments": {"digits": experiment}}))
    printed = parse_config(small.config.model_dump(mode="json"))
    assert build_plan(printed).stages.keys() == small.stages.keys()
    assert printed.results == small.config.results


def test_width_one_changes_no_id_and_another_width_does():
    experiment = VALUES["experiments"]["digits"]

    def teacher(**more):
        values = {"experiments": {"digits": experiment | {"teacher": experiment["teacher"] | more}}}
        return next(ref for ref in build_plan(parse_config(values)).stages if ref.startswith("teachers/"))

    assert teacher() == teacher(width=1.0) != teacher(width=0.5)


@pytest.mark.parametrize("arch", sorted(components.architectures()))
def test_every_architecture_can_be_made_narrow(arch):
    with torch.device("meta"):
        wide = build_teacher(arch, num_classes=10, in_channels=3)
        narrow = build_teacher(arch, num_classes=10, in_channels=3, entry=network_of(arch, 0.125))
        logits = narrow(torch.zeros(2, 3, 64, 64)).logits
    assert logits.shape == (2, 10)
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in wide.parameters()) / 2
