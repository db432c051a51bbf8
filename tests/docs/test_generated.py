"""What is generated from the code is up to date, and the markers in documents are handled as promised."""

import pytest

from spikedistill import components
from spikedistill.config.generated import component_tables, generated_files, update_marked

FILES = generated_files()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_generated_files_are_up_to_date(file):
    assert file.read_text(encoding="utf-8") == FILES[file], "run make generate"


def test_every_component_is_in_the_readme():
    (readme,) = (text for file, text in FILES.items() if file.name == "README.md")
    networks = {name for name in components.architectures() if not name.endswith(("_dvs", "_imagenet"))}
    for name in (*components.names("distill"), *components.names("data.datasets"), *networks):
        assert f"`{name}`" in readme


def test_only_what_is_between_markers_changes():
    text = "before\n<!-- generated: x -->\n| old |\n<!-- /generated -->\nafter\n"
    changed = update_marked(text, {"x": "| new |\n"})
    assert changed == "before\n<!-- generated: x -->\n\n| new |\n\n<!-- /generated -->\nafter\n"
    assert update_marked(changed, {"x": "| new |"}) == changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- generated: y -->\n<!-- /generated -->\n", "no generated table 'y'; there are: x"),
        ("<!-- generated: x -->\n", "lacks its counterpart"),
        ("<!-- /generated -->\n", "lacks its counterpart"),
        ("<!-- generated: x -->\n<!-- generated: x -->\n<!-- /generated -->\n", "lacks its counterpart"),
    ],
)
def test_a_wrong_marker_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        update_marked(text, {"x": "table"})


def test_tables_say_what_components_need():
    rows = [line.split(" | ") for line in component_tables()["methods"].splitlines()]
    needs = {name.strip("|` "): (teacher, rate) for name, teacher, rate, _ in rows[2:]}
    assert needs["kd"] == ("yes", "with `logits: mean`")
    assert needs["tet"] == ("no", "no")
    assert needs["ckdsnn"] == ("yes", "yes")
    assert "frames 10×2×128×128 | 10 | 9,000 + 1,000" in component_tables()["datasets"]  # noqa: RUF001
    assert "| `resnet8` (`_dvs`), `resnet18` (`_dvs`, `_imagenet`)," in component_tables()["architectures"]
