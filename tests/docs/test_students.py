"""docs/students.md names every model of SpikingJelly that can be a student, and its module keeps the promises of its kind."""

import fnmatch
import re
from pathlib import Path

import yaml

from spikedistill import components, plugins
from spikedistill.config.check import parse_config
from spikedistill.contract.check import check_plugin
from spikedistill.models.imported import spikingjelly_names

PAGE = (Path(__file__).parents[2] / "docs" / "students.md").read_text(encoding="utf-8")
TRAIN = {"epochs": 1, "batch_size": 64}


def test_the_example_is_valid():
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    experiment = {"dataset": {"name": "digits"}, "teacher": {"arch": "resnet8", "train": TRAIN}, "methods": {"kd": {}, "tet": {}}}
    parse_config({"experiments": {"one": experiment | yaml.safe_load(block)}})


def test_the_table_names_every_model_and_what_it_needs():
    table = PAGE[PAGE.index("| models | need |") : PAGE.index("Requirements that the configuration")]
    rows = {tuple(re.findall(r"`([^`]+)`", row)): row.rpartition("| ")[2] for row in table.splitlines()[2:] if row}
    named = {}
    for name in components.zoo_names("spikingjelly"):
        (needs,) = {
            needs for names, needs in rows.items() if any(fnmatch.fnmatch(name, each.replace("…", "*")) for each in names)
        }
        named[name] = needs
        family = spikingjelly_names.models()[name]
        known = spikingjelly_names.NEEDS.get(name) or spikingjelly_names.NEEDS.get(family)
        assert bool(known) == (needs.strip(" |") != ""), name
    assert len(named) > 40


def test_the_module_of_ones_own_keeps_its_promises(tmp_path):
    (block,) = re.findall(r"^```python\n# plugins/(.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "plugins" / block[0]
    file.parent.mkdir(parents=True)
    file.write_text(block[1])
    plugins.activate([str(tmp_path / "plugins")])
    try:
        (source,) = (each for each in plugins.sources() if each.folder == tmp_path / "plugins")
        findings = list(check_plugin(source))
    finally:
        plugins.activate([])
    assert len(findings) == 4 and not [finding for finding in findings if finding.problem], findings
