"""examples/logit-methods, as its README says: in an empty folder, without touching the package, to the report."""

import csv
import re

import pytest

from slurm_lab.running import run
from tests.workflow.project import ROOT

pytestmark = pytest.mark.slow
EXAMPLE = ROOT / "examples" / "logit-methods"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("follower"), {}
    (block,) = re.findall(r"^```sh\n(.*?)^```$", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        done = run(folder, "bash", "-c", line, EXAMPLE=str(EXAMPLE))
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}"
        said[line] = done.stdout
    return folder, said


def test_the_plugin_passes_its_check(followed):
    assert re.search(r"2 components checked, \d\d promises, 0 broken", followed[1]["spikedistill check-plugin ./plugins"])


def test_its_methods_stand_in_the_report_beside_that_of_the_package(followed):
    with (followed[0] / "results" / "results.csv").open(encoding="utf-8") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert {"teacher", "kd", "hta-kl", "dkd"} == set(rows)
    assert all(float(rows[name]["accuracy_percent_mean"]) > 15 for name in ("hta-kl", "dkd")), rows  # ten classes
