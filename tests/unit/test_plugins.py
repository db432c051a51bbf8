"""Plug-ins: how they are named and found, what their errors say, and that ids follow every edit of theirs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spikedistill import components, plugins
from spikedistill.cli import main
from spikedistill.cli.arguments import plan_of, plan_of_further
from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.plan.code import _parse, closure
from spikedistill.project.new import NAMES, new_component

METHOD = '''
"""A method of a test."""
from spikedistill.components import ComponentParams
from .. import terms


class Params(ComponentParams):
    """No parameters."""


def needs(params):
    """Return nothing."""
    return frozenset()


def loss(inputs, params):
    """Return the terms."""
    return terms.all_of(inputs)
'''
TERMS = """
def all_of(inputs):
    from spikedistill.distill.ce import mean_cross_entropy

    return {"ce": mean_cross_entropy(inputs.logits, inputs.labels)}
"""
COUNT = iter(range(1000))


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A folder with one method and a module beside the rooms; its name is new, because Python imports a name once."""
    folder = tmp_path / f"plugin_{os.getpid()}_{next(COUNT)}"
    (folder / "distill").mkdir(parents=True)
    (folder / "distill" / "mine.py").write_text(METHOD)
    (folder / "terms.py").write_text(TERMS)
    monkeypatch.chdir(tmp_path)
    yield folder
    plugins.activate([])


def config(folder, method="mine", **sections):
    train = {"epochs": 1, "batch_size": 8}
    experiment = {
        "dataset": {"name": "digits"},
        "student": {"arch": "resnet8", "time_steps": 2, "train": train},
        "methods": {method: {}},
    }
    return {"plugins": [f"./{folder.name}"], "experiments": {"one": experiment | sections}}


def student_of(values):
    return next(spec for spec in build_plan(parse_config(values)).stages.values() if spec.stage == "distill")


def in_new_process(folder, method="mine"):
    """The code that the spec of a student records, planned by a process that sees the files as they are now."""
    code = (
        "import sys, json\n"
        "from spikedistill.config.check import parse_config\n"
        "from spikedistill.plan.build import build_plan\n"
        "plan = build_plan(parse_config(json.loads(sys.argv[1])))\n"
        "print(next(json.dumps(spec.code) for spec in plan.stages.values() if spec.stage == 'distill'))\n"
    )
    values = json.dumps(config(folder, method))
    done = subprocess.run([sys.executable, "-c", code, values], cwd=folder.parent, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_folder_is_found_by_its_path_and_its_components_by_their_names(plugin):
    spec = student_of(config(plugin))
    assert spec.method == "mine"
    assert set(spec.code) == {f"{plugin.name}.distill.mine", f"{plugin.name}.terms"}
    assert components.module_of("distill", "mine") == f"{plugin.name}.distill.mine"
    assert plugins.named() == [f"./{plugin.name}"]


def test_a_stage_without_the_plug_in_of_its_method_says_so(plugin, caplog):
    spec = student_of(config(plugin)).model_dump_json()
    assert main(["run", "--spec", spec]) == 1
    assert "unknown method 'mine'" in caplog.text


def test_a_dataset_of_a_single_class_is_refused_before_it_is_prepared(plugin):
    file = new_component("dataset", "bars", plugin)
    file.write_text(file.read_text().replace("CLASS_NAMES = (", "CLASS_NAMES = ('bar',)  # ("))
    with pytest.raises(ConfigError, match=r"one\.dataset\.name: 'bars' needs two classes or more to tell apart; found 1"):
        parse_config(config(plugin, dataset={"name": "bars"}))


def test_a_configuration_without_the_plug_in_does_not_find_them(plugin):
    student_of(config(plugin))
    values = config(plugin) | {"plugins": []}
    with pytest.raises(ConfigError, match="unknown method 'mine'"):
        parse_config(values)


def test_an_edit_of_the_method_or_of_what_it_imports_changes_the_recorded_code(plugin):
    before = in_new_process(plugin)
    (plugin / "terms.py").write_text(TERMS.replace('"ce"', '"loss"'))
    after = in_new_process(plugin)
    changed = {module for module in before if before[module] != after[module]}
    assert changed == {f"{plugin.name}.terms"}
    (plugin / "terms.py").write_text("# a comment\n" + TERMS.replace('"ce"', '"loss"'))
    assert in_new_process(plugin) == after


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("import {name}.extra", "extra"),
        ("from {name} import extra", "extra"),
        ("from {name}.extra import VALUE", "extra"),
        ("from ..extra import VALUE", "extra"),
        ("from .. import extra", "extra"),
        ("from . import beside", "distill.beside"),
        ("import {name}.package", "package"),
        ("import {name}.package as short", "package"),
        ("from ..package import *", "package"),
    ],
)
def test_every_form_of_import_within_a_plug_in_is_followed(plugin, statement, module):
    (plugin / "extra.py").write_text("VALUE = 1\n")
    (plugin / "package").mkdir()
    (plugin / "package" / "__init__.py").write_text("VALUE = 1\n")
    (plugin / "distill" / "beside.py").write_text("VALUE = 1\n")
    (plugin / "distill" / "mine.py").write_text(METHOD + statement.format(name=plugin.name) + "\n")
    assert f"{plugin.name}.{module}" in in_new_process(plugin)


def code_now(plugin):
    """The code that the spec of a student records, with the files as they are now: caches are emptied in between."""
    plugins.activate([])
    return student_of(config(plugin)).code


@pytest.mark.parametrize("statement", ["import {name}", "import {name} as ours", ""])
def test_the_init_files_that_run_before_a_method_are_part_of_its_code(plugin, statement):
    name = plugin.name
    (plugin / "distill" / "mine.py").write_text(METHOD + statement.format(name=name) + "\n")
    for package in (plugin, plugin / "distill"):
        (package / "__init__.py").write_text("ALPHA = 1\n")
    before = code_now(plugin)
    assert set(before) == {name, f"{name}.distill", f"{name}.distill.mine", f"{name}.terms"}
    (plugin / "__init__.py").write_text("ALPHA = 2\n")
    after = code_now(plugin)
    assert {module for module in before if before[module] != after[module]} == {name}


def test_an_import_of_the_plug_in_itself_is_one_of_its_init_file(plugin):
    (plugin / "__init__.py").write_text("ALPHA = 1\n")
    student_of(config(plugin))
    assert _parse(f"{plugin.name}.terms", f"import {plugin.name}").imports == (plugin.name,)
    assert _parse(f"{plugin.name}.terms", "import spikedistill").imports == ()


def test_an_init_file_without_code_is_part_of_no_id(plugin):
    (plugin / "distill" / "mine.py").write_text(METHOD.replace("from .. import terms", "from ..terms import all_of"))
    before = code_now(plugin)
    (plugin / "__init__.py").write_text('"""Methods of a test."""\n')
    (plugin / "distill" / "__init__.py").write_text("")
    assert code_now(plugin) == before


def test_a_module_beside_a_folder_of_its_name_is_followed(plugin):
    (plugin / "terms").mkdir()
    assert set(code_now(plugin)) == {f"{plugin.name}.distill.mine", f"{plugin.name}.terms"}


def test_an_import_that_cannot_be_parsed_is_named(plugin):
    (plugin / "models").mkdir()
    (plugin / "models" / "net.py").write_text("from .. import broken\nARCHITECTURES = {'net': {}}\n")
    (plugin / "broken.py").write_text("def (:\n")
    values = config(plugin)
    values["experiments"]["one"]["student"]["arch"] = "net"
    with pytest.raises(ConfigError, match=r"broken\.py cannot be read: invalid syntax"):
        build_plan(parse_config(values))


@pytest.mark.parametrize("name", [".#mykd.py", "mykd.py", ".hidden.py"])
def test_links_of_editors_and_dangling_ones_are_no_components(plugin, name):
    for folder in (plugin, plugin / "distill", plugin / "models"):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to("somebody@somewhere.1234")
    assert set(student_of(config(plugin)).code) == {f"{plugin.name}.distill.mine", f"{plugin.name}.terms"}
    assert "mykd" not in components.names("distill")


def test_a_file_that_cannot_be_read_is_named(plugin):
    (plugin / "distill" / "other.py").symlink_to("/proc/self/mem")
    with pytest.raises(ConfigError, match=r"distill/other\.py cannot be read: Input/output error"):
        parse_config(config(plugin))


def test_a_folder_that_cannot_be_looked_through_is_named(plugin, monkeypatch):
    def fail(path):
        raise OSError(116, "Stale file handle", "/lab/plug_in/terms.py")

    monkeypatch.setattr(plugins, "_mode", fail)
    with pytest.raises(ConfigError, match=r"plugins: \./.*: /lab/plug_in/terms\.py: Stale file handle"):
        parse_config(config(plugin))


@pytest.mark.parametrize("name", ["mean_cross_entropy", "LIF"])
def test_what_the_package_itself_offers_is_followed_to_its_module(plugin, name):
    (plugin / "distill" / "mine.py").write_text(METHOD + f"\nfrom spikedistill import {name}\n")
    student_of(config(plugin))
    module = {"mean_cross_entropy": "spikedistill.distill.ce", "LIF": "spikedistill.neurons.lif"}[name]
    assert module in closure((f"{plugin.name}.distill.mine",))


def broken(plugin, text, method="mine"):
    (plugin / "distill" / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse_config(config(plugin, method))
    return str(caught.value)


def test_an_import_that_fails_names_file_and_line(plugin):
    message = broken(plugin, METHOD + "\nimport a_module_that_nobody_has\n")
    line = METHOD.count("\n") + 2
    assert f"methods.mine: {plugin / 'distill' / 'mine.py'}, line {line}: cannot be imported: ModuleNotFoundError" in message
    assert "a_module_that_nobody_has" in message


def test_a_failure_in_a_module_that_is_imported_names_that_module(plugin):
    (plugin / "terms.py").write_text("x = 1\ny = x / 0\n")
    message = broken(plugin, METHOD)
    assert f"{plugin / 'terms.py'}, line 2: cannot be imported: ZeroDivisionError" in message


def test_a_syntax_error_names_file_and_line(plugin):
    message = broken(plugin, METHOD.replace("return frozenset()", "return frozenset(("))
    assert re.search(rf"{re.escape(str(plugin / 'distill' / 'mine.py'))}, line \d+: cannot be imported: SyntaxError", message)


def test_a_syntax_error_in_one_file_leaves_the_others_usable(plugin):
    (plugin / "distill" / "other.py").write_text("def (:\n")
    (plugin / "models").mkdir()
    (plugin / "models" / "half.py").write_text("ARCHITECTURES = {\n")
    assert student_of(config(plugin)).method == "mine"
    with pytest.raises(ConfigError, match=r"unknown architecture 'mynet'.*half\.py cannot be read: line 1"):
        values = config(plugin)
        values["experiments"]["one"]["student"]["arch"] = "mynet"
        parse_config(values)


def test_a_file_without_params_is_named_when_it_is_asked_for(plugin):
    message = broken(plugin, METHOD.replace("class Params", "class Parameters"))
    assert "unknown method 'mine'." in message
    assert f"{plugin / 'distill' / 'mine.py'} has no class Params" in message


def test_a_file_that_lacks_something_of_its_contract_is_named(plugin):
    message = broken(plugin, METHOD.replace("def loss", "def lost"))
    assert f"{plugin / 'distill' / 'mine.py'}: method without loss; see docs/extending.md" in message


def test_a_table_that_is_no_literal_is_named(plugin):
    (plugin / "models").mkdir()
    (plugin / "models" / "net.py").write_text("WIDTH = 3\nARCHITECTURES = {'net': {'widths': (WIDTH,)}}\n")
    with pytest.raises(ConfigError, match=r"net\.py, line 2: ARCHITECTURES must be a literal"):
        parse_config(config(plugin))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ARCHITECTURES = {[]: 1}", "net.py, line 1: ARCHITECTURES must be a literal"),
        ("ARCHITECTURES: dict", "net.py, line 1: ARCHITECTURES has no value; a literal is expected"),
        ("ARCHITECTURES = [1]", "net.py: ARCHITECTURES must map names to entries that JSON can hold, as in {'mynet'"),
        ("ARCHITECTURES = 0", "; found 0"),
        ("ARCHITECTURES = {'net': 1}", "; found 'net': 1"),
        ("ARCHITECTURES = {1: {}}", "; found 1: {}"),
        ("ARCHITECTURES = {'net': {'widths': {16, }}}", "; found 'net': {'widths': {16}}"),
        ("ARCHITECTURES = {'net+3': {}}", "net.py: ARCHITECTURES: 'net+3' cannot name a component"),
        ("ARCHITECTURES = {'my/net': {}}", "'my/net' cannot name a component"),
        ("ZOO = ['timm']", "net.py: ZOO must be a text, the prefix of the names; found ['timm']"),
    ],
)
def test_a_table_of_another_form_is_named_with_what_is_expected(plugin, text, reason):
    (plugin / "models").mkdir()
    (plugin / "models" / "net.py").write_text(text + "\n")
    with pytest.raises(ConfigError, match=re.escape(reason)):
        parse_config(config(plugin))
        components.zoos()


def test_a_table_may_be_annotated_before_it_gets_its_value(plugin):
    (plugin / "models").mkdir()
    (plugin / "models" / "net.py").write_text("ARCHITECTURES: dict\nARCHITECTURES = {'net': {}}\n")
    parse_config(config(plugin))
    assert components.architecture("net").entry == {}


def test_two_components_of_one_name_are_an_error_that_names_both_files_where_the_name_is_used(plugin):
    (plugin / "distill" / "kd.py").write_text(METHOD)
    assert student_of(config(plugin)).method == "mine"
    with pytest.raises(ConfigError, match="is defined more than once") as caught:
        parse_config(config(plugin, "kd", teacher={"arch": "resnet8", "train": {"epochs": 1, "batch_size": 8}}))
    assert str(plugin / "distill" / "kd.py") in str(caught.value)
    assert "spikedistill/distill/kd.py" in str(caught.value)


def test_two_architectures_of_one_name_likewise(plugin):
    (plugin / "models").mkdir()
    (plugin / "models" / "net.py").write_text("ARCHITECTURES = {'resnet8': {}}\n")
    with pytest.raises(ConfigError, match=r"architecture 'resnet8' is defined more than once: .*resnet\.py, .*net\.py"):
        parse_config(config(plugin))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("./nowhere", r"plugins: \./nowhere: no such folder"),
        ("./not-a-name", "'not-a-name' is none for Python"),
        ("./class", "'class' is none for Python"),
        ("./json", "there is a Python package 'json' already"),
        ("./models", "recorded under this name"),
        ("./empty", r"none of the folders distill, datasets, models"),
        ("nowhere_at_all", "no package of that name is installed"),
        ("empty", r"no package of that name is installed; the folder here is called \./empty"),
        ("json.decoder", "a module, not a package with rooms"),
        ("os;rm", "neither the name of a package"),
        ("spikedistill", "this is spikedistill itself"),
        ("spikedistill.data", "this is spikedistill itself"),
    ],
)
def test_what_cannot_be_a_plug_in_is_refused_with_the_reason(plugin, tmp_path, name, reason):
    for folder in ("not-a-name/distill", "class/distill", "json/distill", "models/distill", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"config\.yaml: plugins: {'plugins: ' if name[0] != '.' else ''}.*{reason}"):
        parse_config(config(plugin) | {"plugins": [name]}, source="config.yaml")


@pytest.mark.parametrize(
    "place",
    ["..", ".", "distill", "distill/mine.py", "terms.py", "lib", "lib/more.py", "lib/fast.so", "distill/__pycache__"],
)
def test_a_plug_in_that_every_user_can_write_to_is_refused(plugin, place):
    for folder in ("lib", "distill/__pycache__"):
        (plugin / folder).mkdir()
    for file in ("more.py", "fast.so"):
        (plugin / "lib" / file).write_text("")
    refused(plugin, plugin / place)


def refused(plugin, path, name=None):
    """Let every user write to a path, and check that the plug-in is refused for that."""
    assert student_of(config(plugin) | ({"plugins": [name]} if name else {})).method == "mine"
    path = path.resolve()
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(ConfigError, match=rf"every user of this machine can write to {re.escape(str(path))}, .*chmod o-w"):
        parse_config(config(plugin) | ({"plugins": [name]} if name else {}))


@pytest.mark.parametrize("place", [".", "code", "code/distill", "code/distill/mine.py"])
def test_so_is_one_whose_links_lead_to_what_every_user_can_write_to(plugin, tmp_path, place):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "code").mkdir(parents=True)
    (plugin / "distill").rename(elsewhere / "code" / "distill")
    (plugin / "distill").symlink_to(elsewhere / "code" / "distill")
    refused(plugin, elsewhere / place)


@pytest.mark.parametrize("place", [".", "terms.py"])
def test_so_is_one_with_a_linked_file_likewise(plugin, tmp_path, place):
    (tmp_path / "elsewhere").mkdir()
    (plugin / "terms.py").rename(tmp_path / "elsewhere" / "terms.py")
    (plugin / "terms.py").symlink_to(tmp_path / "elsewhere" / "terms.py")
    refused(plugin, tmp_path / "elsewhere" / place)


@pytest.mark.parametrize("place", ["far", "far/away", "link"])
def test_so_is_one_that_every_user_can_replace(plugin, tmp_path, place):
    for folder in ("far/away", "link"):
        (tmp_path / folder).mkdir(parents=True)
    plugin.rename(tmp_path / "far" / "away" / plugin.name)
    (tmp_path / "link" / "to").symlink_to(tmp_path / "far" / "away")
    refused(plugin, tmp_path / place, f"./link/to/{plugin.name}")


def test_so_is_one_whose_way_leads_through_a_link_that_every_user_can_replace(plugin, tmp_path):
    for folder in ("open", "safe"):
        (tmp_path / folder).mkdir()
    plugin.rename(tmp_path / "safe" / plugin.name)
    (tmp_path / "open" / "current").symlink_to("../safe")
    (tmp_path / "through").symlink_to(tmp_path / "open" / "current")
    refused(plugin, tmp_path / "open", f"./through/{plugin.name}")


def test_so_is_one_whose_files_lie_behind_such_a_link(plugin, tmp_path):
    for folder in ("open", "safe"):
        (tmp_path / folder).mkdir()
    (plugin / "terms.py").rename(tmp_path / "safe" / "terms.py")
    (tmp_path / "open" / "current").symlink_to("../safe")
    (plugin / "terms.py").symlink_to(tmp_path / "open" / "current" / "terms.py")
    refused(plugin, tmp_path / "open")


def test_a_sticky_folder_above_is_fine_and_the_plug_in_itself_may_not_be_one(plugin, tmp_path):
    tmp_path.chmod(0o1777)
    assert student_of(config(plugin)).method == "mine"
    (plugin / "distill").chmod(0o1777)
    with pytest.raises(ConfigError, match="every user of this machine can write to"):
        parse_config(config(plugin))


def test_links_that_go_round_in_circles_are_followed_once(plugin):
    (plugin / "distill" / "round").symlink_to(plugin)
    (plugin / "distill" / "loop.py").symlink_to("loop.py")
    assert student_of(config(plugin)).method == "mine"


def test_nothing_that_lies_beside_it_becomes_importable(plugin, tmp_path):
    (tmp_path / "an_optional_library.py").write_text("")
    student_of(config(plugin))
    assert importlib.util.find_spec(plugin.name) is not None
    assert importlib.util.find_spec("an_optional_library") is None


def test_its_package_may_have_an_init_file(plugin):
    (plugin / "__init__.py").write_text("from spikedistill.distill.ce import mean_cross_entropy as ce\n")
    (plugin / "distill" / "mine.py").write_text(METHOD + f"\nfrom {plugin.name} import ce\n")
    assert set(in_new_process(plugin)) == {plugin.name, f"{plugin.name}.distill.mine", f"{plugin.name}.terms"}


def test_two_folders_of_one_name_cannot_both_be_used(plugin, tmp_path):
    (tmp_path / "other" / plugin.name / "distill").mkdir(parents=True)
    student_of(config(plugin))
    with pytest.raises(ConfigError, match=r"there is a Python package .* already"):
        parse_config(config(plugin) | {"plugins": [f"./{plugin.name}", f"./other/{plugin.name}"]})
    assert components.load("distill", "mine").__file__ == str(plugin / "distill" / "mine.py")


NET = "from spikedistill.models.resnet import build\n\nARCHITECTURES = {'net': {'widths': (WIDTH, 16), 'blocks': (1, 1)}}\n"
PARAMS = "weight: float = DEFAULT"


def two_projects(plugin, tmp_path):
    """Two projects whose plug-ins have the same names, and other code, defaults and networks; the files of both."""
    files = []
    for label, default, width in (("a", "1.0", "8"), ("b", "2.0", "32")):
        folder = shutil.copytree(plugin, tmp_path / label / plugin.name)
        method = METHOD.replace('"""No parameters."""', PARAMS.replace("DEFAULT", default))
        (folder / "distill" / "mine.py").write_text(method)
        (folder / "terms.py").write_text(f"{TERMS}WIDTH = {width}\n")
        (folder / "models").mkdir()
        (folder / "models" / "net.py").write_text(NET.replace("WIDTH", width))
        values = config(folder)
        values["experiments"]["one"]["methods"] = {"mine": {"params": {"weight": 2.0}}}
        values["experiments"]["one"]["student"]["arch"] = "net"
        files.append(folder.parent / "config.yaml")
        files[-1].write_text(json.dumps(values))
    return files


def refs_in_new_process(file):
    code = "from spikedistill.cli import arguments as each; print(*each.plan_of(each.DEFAULT_FILES, []).stages)"
    done = subprocess.run([sys.executable, "-c", code], cwd=file.parent, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_configuration_of_another_project_gets_the_ids_that_it_has_there(plugin, tmp_path, monkeypatch):
    one, other = two_projects(plugin, tmp_path)
    monkeypatch.chdir(one.parent)
    here, there = (list(plan_of_further([file]).stages) for file in (one, other))
    assert here == refs_in_new_process(one)
    assert there == refs_in_new_process(other)
    assert not set(here[1:]) & set(there[1:])  # all but the data
    assert list(plan_of_further([one]).stages) == here


def test_relative_paths_of_a_configuration_elsewhere_count_from_its_folder(plugin, tmp_path, monkeypatch):
    _, file = two_projects(plugin, tmp_path)
    (tmp_path / "a" / "configs").mkdir()
    inside = tmp_path / "a" / "configs" / "more.yaml"
    inside.write_text(json.dumps({"store": "ours", "results": "./results"}))
    values = json.loads(file.read_text())
    values |= {"store": "shared/store", "plugins": [f"./{plugin.name}"]}
    values["experiments"]["one"]["dataset"] = {"name": "digits", "root": "raw"}
    file.write_text(json.dumps(values))
    (tmp_path / "b" / "raw").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    found = plan_of_further([Path("../b/config.yaml")]).config
    assert found.store == str(tmp_path / "b" / "shared" / "store")
    assert found.plugins == [str(tmp_path / "b" / plugin.name)]
    assert found.experiments["one"].dataset.root == str(tmp_path / "b" / "raw")
    assert plan_of_further([file, Path("configs/more.yaml")]).config.store == "ours"
    with pytest.raises(ConfigError, match="no such folder: raw"):
        plan_of([file], [])  # of `--configfile`: as Snakemake reads it


def test_it_may_lie_anywhere_and_its_path_may_hold_spaces_and_quotes(plugin, tmp_path):
    place = tmp_path / 'a lab\'s "own" $HOME'
    place.mkdir()
    moved = plugin.rename(place / plugin.name)
    spec = student_of(config(plugin) | {"plugins": [str(moved)]})
    assert set(spec.code) == {f"{plugin.name}.distill.mine", f"{plugin.name}.terms"}


def test_the_list_shows_where_each_comes_from_and_what_cannot_be_used(plugin, capsys, tmp_path):
    (plugin / "distill" / "broken.py").write_text(METHOD + "\n1 / 0\n")
    (tmp_path / "config.yaml").write_text(f"plugins: [./{plugin.name}]\n")
    assert main(["list", "methods"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^kd +spikedistill +Logit distillation", said, re.MULTILINE)
    assert re.search(rf"^mine +{plugin.name} +A method of a test\.", said, re.MULTILINE)
    assert re.search(
        rf"^broken +{plugin.name} +\(cannot be used: .*broken\.py, line \d+: .*ZeroDivisionError", said, re.MULTILINE
    )


@pytest.mark.parametrize("kind", NAMES)
def test_a_new_component_passes_its_contract(plugin, kind, capsys):
    file = new_component(kind, "fresh-one", plugin)
    assert file.name == "fresh_one.py"
    (plugin / "distill" / "mine.py").unlink()
    assert main(["check-plugin", f"./{plugin.name}"]) == 0
    assert re.search(r"1 components checked, \d+ promises, 0 broken", capsys.readouterr().out)
    with pytest.raises(ConfigError, match=r"'fresh-one' is the name of another"):
        new_component(kind, "fresh-one", plugin)


def test_a_new_component_goes_into_the_folder_that_the_configuration_means(plugin, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.yaml").write_text(f"plugins: [~/{plugin.name}]\n")
    assert main(["new", "method", "another"]) == 0
    assert (plugin / "distill" / "another.py").is_file()
    assert "to use it" not in capsys.readouterr().out


def test_a_component_may_import_another_plug_in_of_the_configuration(plugin, tmp_path, capsys):
    other = tmp_path / f"{plugin.name}_other"
    (other / "distill").mkdir(parents=True)
    (other / "distill" / "theirs.py").write_text(METHOD.replace("from .. import terms", f"from {plugin.name} import terms"))
    (tmp_path / "config.yaml").write_text(f"plugins: [./{plugin.name}, ./{other.name}]\n")
    assert main(["check-plugin"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ["my-plugin", "class", "train"])
def test_nothing_is_written_for_a_plug_in_that_could_not_be_used(plugin, tmp_path, name):
    with pytest.raises(ConfigError, match=rf"--plugin .*{name}: .*(none for Python|choose another)"):
        new_component("method", "fresh", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_copy_whose_name_no_artifact_can_hold_is_no_component(plugin):
    (plugin / "distill" / "mine (copy).py").write_text(METHOD)
    assert student_of(config(plugin)).method == "mine"
    with pytest.raises(ConfigError, match=r"unknown method 'mine \(copy\)'"):
        parse_config(config(plugin, method="mine (copy)"))


NETWORK = '''
"""A network of a test."""
from torch import nn
from spikedistill.models.network import Network

ARCHITECTURES = {"odd": ENTRY}


class Shortcut(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Squared(nn.Module):
    def forward(self, x):
        return (x + 1) ** 2


class Shared(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv, self.act, self.again = nn.Conv2d(4, 4, 3, padding=1), act, nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.act(self.again(self.act(self.conv(x))))


def build(entry, activation, num_classes, in_channels):
    stem, after = nn.Conv2d(in_channels, 4, 3, padding=1), nn.Sequential(nn.BatchNorm2d(4), activation())
    first, last = STAGE, nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), activation(), LAST)
    return Network(stem=stem, after_stem=after, stages=[first, last], widths=[4, 4], classifier=nn.Linear(4, num_classes))
'''
LAYERS = "nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), activation()"


@pytest.mark.parametrize(
    ("entry", "stage", "last", "problem"),
    [
        ("{}", f"nn.Sequential({LAYERS})", "nn.Identity()", None),
        ("{}", f"Shortcut({LAYERS})", "nn.Identity()", None),
        ("{}", "nn.Sequential(Shared(activation()))", "nn.Identity()", "used more than once: stage1.block1.lif"),
        ("{}", f"nn.Sequential({LAYERS})", "Squared()", "of the rate pass differ"),
        ("{'rate': False}", f"nn.Sequential({LAYERS})", "Squared()", None),
        ("{}", f"nn.Sequential({LAYERS})", "nn.Softplus()", None),  # refused by name where backward: rate is set
    ],
)
def test_check_plugin_names_what_a_network_breaks(plugin, capsys, entry, stage, last, problem):
    (plugin / "distill" / "mine.py").unlink()
    (plugin / "models").mkdir()
    text = NETWORK.lstrip().replace("ENTRY", entry).replace("STAGE", stage).replace("LAST", last)
    (plugin / "models" / "odd.py").write_text(text)
    assert main(["check-plugin", f"./{plugin.name}"]) == (0 if problem is None else 1), capsys.readouterr().out
    said = capsys.readouterr().out
    assert problem is None or problem in said


def test_a_network_for_training_through_time_alone_is_refused_for_rates(plugin):
    (plugin / "models").mkdir()
    (plugin / "models" / "odd.py").write_text(NETWORK.replace("ENTRY", "{'rate': False}"))
    values = config(plugin)
    values["experiments"]["one"]["student"] |= {"arch": "odd", "backward": "rate"}
    with pytest.raises(ConfigError, match=r"student\.backward: 'odd' trains through time only"):
        parse_config(values)


@pytest.mark.parametrize("name", ["2x", "a b", "../x", "Kd", "class", "", "a.b"])
def test_a_name_that_cannot_be_one_is_refused(plugin, name):
    with pytest.raises(ConfigError, match="cannot name a method"):
        new_component("method", name, plugin)
    assert sorted(path.name for path in (plugin / "distill").iterdir()) == ["mine.py"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("terms.all_of(inputs)", '{"ce": terms.all_of(inputs)["ce"] / 0.0}'), "gets a finite gradient"),
        (
            ("terms.all_of(inputs)", '{"ce": terms.all_of(inputs)["ce"].half()}'),
            "a float32 scalar is expected; found torch.float16",
        ),
        (
            ("terms.all_of(inputs)", '{"ce": inputs.logits.mean() * inputs.logits[0, 0, 0]}'),
            "the order of the samples changes",
        ),
        (("return frozenset()", 'return frozenset({"everything"})'), "needs returns some of teacher, steps"),
        (('"""A method of a test."""', '"""A method"""'), "begins with one sentence about the method; found 'A method'"),
        (("from .. import terms", "from .. import terms\nimport torch"), "imports torch when it is imported"),
        (("return terms.all_of(inputs)", "raise RuntimeError('not yet')"), "RuntimeError: not yet"),
    ],
)
def test_check_plugin_names_the_broken_promise(plugin, capsys, change, problem):
    (plugin / "distill" / "mine.py").write_text(METHOD.replace(*change))
    assert main(["check-plugin", f"./{plugin.name}"]) == 1
    said = capsys.readouterr().out
    assert "FAILED  method mine: " in said
    assert problem in said
