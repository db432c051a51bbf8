"""The table of stages: everything that lists stages reads it."""

from pathlib import Path
from typing import get_args

from spikedistill.plan.stages import RULES, STAGES, NetworkSpec, Spec, network_role

ROOT = Path(__file__).parents[3]


def test_every_spec_has_a_row_a_module_and_a_rule():
    assert {stage.spec for stage in STAGES.values()} == set(get_args(Spec))
    for name, stage in STAGES.items():
        assert stage.spec.model_fields["stage"].default == name
        assert (ROOT / "src/spikedistill/stages" / f"{name}.py").is_file()
    assert {file.stem for file in (ROOT / "workflow/rules").glob("*.smk")} == {*RULES, "common"}


def test_the_folder_of_an_artifact_tells_what_network_it_is():
    assert {network_role(f"{spec.folder}/x-1") for spec in get_args(NetworkSpec)} == {"teacher", "student"}
    assert network_role("data/x-1") is None
