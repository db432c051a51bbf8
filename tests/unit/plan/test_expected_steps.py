"""What the logger of `--logger lines` is told of a plan."""

from pathlib import Path

import yaml

from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.plan.estimate import Cost
from spikedistill.plan.stages import PreprocessSpec
from spikedistill.plan.tables import expected_steps

CONFIG = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())


def test_it_is_the_seconds_of_what_will_run_by_rule_and_artifact_and_the_number_of_the_rest():
    plan = build_plan(parse_config(CONFIG))
    cached = {ref for ref, spec in plan.stages.items() if isinstance(spec, PreprocessSpec)}
    told = expected_steps(plan, cached, lambda spec: Cost(hours=0.5, gpus=0, cpus=1, gpu_mb=0, host_mb=1))
    assert told["cached"] == len(cached) == 2
    assert set(told["seconds"].values()) == {1800.0}
    labels = {f"{spec.stage} {Path(ref).name}" for ref, spec in plan.stages.items() if ref not in cached}
    assert told["seconds"].keys() == labels
    assert sum(label.startswith("distill digits-dvs-resnet8_dvs-sealkd-seed") for label in labels) == 2
