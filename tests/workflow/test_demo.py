"""The demo from end to end on this machine, without a checkout, and what happens when things change afterwards."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

import spikedistill
from slurm_lab.running import run
from tests.workflow.project import copy_project, edit_profile

SMALL = {
    "seeds": [0],
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": {"epochs": 1, "batch_size": 64}},
            "student": {"arch": "resnet8", "time_steps": 2, "train": {"epochs": 1, "batch_size": 64}},
            "methods": {"tet": {}, "kd": {}},
        }
    },
}


def go(folder, *arguments):
    return run(folder, "snakemake", "--profile", "cluster/local", *arguments)


def planned(folder, *arguments):
    """Rules that would run, with how many jobs each."""
    output = run(folder, "snakemake", "-n", *arguments).stdout
    table = re.findall(r"^(preprocess|teacher|distill|evaluate|report)\s+(\d+)$", output, re.MULTILINE)
    return {rule: int(count) for rule, count in table}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo with the first of its seeds, which is half of its students."""
    folder = tmp_path_factory.mktemp("demo") / "project"
    assert run(folder.parent, "spikedistill", "init", folder.name).returncode == 0
    edit_profile(folder, lambda profile: profile.update(config=["seeds=[0]"]))
    done = run(folder, "spikedistill", "demo")
    assert done.returncode == 0, done.stdout[-5000:]
    table, _, ending = done.stdout.partition("| experiment")[2].partition("On one page: ")
    assert all(word in table for word in ("teacher", "tet", "kd", "digits-dvs", "ce", "sealkd", "ckdsnn"))
    assert not re.search(
        r"^(local)?rule \w+:|^ +jobid: |^Finished jobid|steps \(\d+%\) done|^Reason: ", done.stdout, re.MULTILINE
    )
    assert f"results: {folder / 'results/results.html'}" in done.stdout
    assert str(folder / "results" / "results.html") in ending
    return folder


@pytest.fixture(scope="module")
def small_done(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("small"))
    (folder / "config.yaml").write_text(yaml.safe_dump(SMALL))
    done = go(folder)
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


@pytest.fixture
def small(small_done, tmp_path):
    """A workflow that has run, as a copy of its own."""
    folder = shutil.copytree(small_done, tmp_path / "project", symlinks=True)
    assert planned(folder) == {}
    return folder


def test_students_of_the_demo_reach_their_accuracy(demo):
    for experiment, students, least in (("digits-resnet8-", 2, 0.94), ("digits-dvs-resnet8_dvs-", 4, 0.88)):
        files = list((demo / "store/evaluations").glob(f"student-{experiment}*/evaluation.json"))
        assert len(files) == students
        for file in files:
            evaluation = json.loads(file.read_text())
            assert evaluation["num_samples"] == 360
            assert evaluation["accuracy"] >= least, file
    table = (demo / "results/results.md").read_text()
    assert all(word in table for word in ("teacher", "tet", "kd", "digits-dvs"))


def test_every_network_that_python_loads_is_as_accurate_as_evaluated(demo):
    files = list((demo / "store/evaluations").glob("*/evaluation.json"))
    assert len(files) == 8
    for file in files:
        ref = json.loads((file.parent / "manifest.json").read_text())["spec"]["model"]
        network, data = (function(ref, demo / "store") for function in (spikedistill.load, spikedistill.open_data))
        rows = data.split("test")
        samples = data.take(rows).swapaxes(0, 1) if data.kind == "frames" else data.take(rows)
        assert (network.predict(samples) == data.labels[rows]).mean() == json.loads(file.read_text())["accuracy"], ref


def test_the_demo_again_has_nothing_to_do_and_the_html_report_builds(demo):
    assert "Nothing to be done" in go(demo).stdout
    done = run(demo, "snakemake", "--report", "report.html")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "accuracy_over_time" in (demo / "report.html").read_text()


def test_the_rule_graph_and_the_linter_work(demo):
    assert "digraph" in run(demo, "snakemake", "--rulegraph").stdout
    assert run(demo, "snakemake", "--lint").returncode == 0


def test_a_changed_student_is_trained_again_and_no_teacher(small):
    config = yaml.safe_load((small / "config.yaml").read_text())
    config["experiments"]["digits"]["methods"]["kd"] = {"params": {"alpha": 0.5}}
    (small / "config.yaml").write_text(yaml.safe_dump(config))
    assert planned(small) == {"distill": 1, "evaluate": 1, "report": 1}


def test_a_deleted_artifact_and_what_needs_it_are_made_again(small):
    shutil.rmtree(next((small / "store/students").glob("*kd*")))
    assert planned(small) == {"distill": 1, "evaluate": 1, "report": 1}
    done = go(small)
    assert done.returncode == 0, done.stdout[-3000:]
    assert planned(small) == {}
    shutil.rmtree(next((small / "store/teachers").glob("*")))
    assert planned(small) == {"teacher": 1, "distill": 1, "evaluate": 3, "report": 1}  # every student is compared with it


def test_a_copied_store_with_new_dates_is_not_trained_again(small):
    shutil.copytree(small / "store", small / "copy", copy_function=shutil.copyfile)
    for file in sorted((small / "copy/data").rglob("*")):
        file.touch()
    assert planned(small, "--config", "store=copy") in ({}, {"report": 1})


def test_a_damaged_artifact_is_named_refused_and_built_again_when_asked(small):
    weights = next((small / "store/teachers").glob("*/weights.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    shutil.rmtree(next((small / "store/students").glob("*kd*")))
    refused = go(small)
    assert refused.returncode != 0
    assert re.search(r"failed   distill .*-kd-.*\n    distill.*: local job \d+ failed", refused.stdout)
    assert "damaged artifact, not used" in refused.stdout
    assert "Error in rule" not in refused.stdout
    assert "Error in rule distill" in go(small, "--logger-lines-blocks").stdout
    assert weights.parent.name in refused.stdout
    verified = run(small, "spikedistill", "verify")
    assert verified.returncode == 1
    assert re.search(rf"damaged\s+teachers/{weights.parent.name}: weights.safetensors: sha256", verified.stdout)
    assert run(small, "spikedistill", "verify", "--set-aside").returncode == 0
    done = go(small)
    assert done.returncode == 0, done.stdout[-3000:]
    assert run(small, "spikedistill", "verify").returncode == 0


def test_a_stage_submitted_by_itself_has_the_id_of_the_dag(small, tmp_path_factory):
    other = copy_project(tmp_path_factory.mktemp("single"))
    (other / "config.yaml").write_text(yaml.safe_dump(SMALL))
    student = next((small / "store/students").glob("*kd*")).name
    missing = run(other, "spikedistill", "submit", student, "--cluster", "local")
    assert missing.returncode == 1
    assert "needs artifacts that are not there yet" in missing.stdout
    assert "--with-upstream" in missing.stdout
    done = run(other, "spikedistill", "submit", student, "--cluster", "local", "--with-upstream")
    assert done.returncode == 0, done.stdout
    assert (other / "store/students" / student / "manifest.json").exists()
    assert "is there already" in run(other, "spikedistill", "submit", student, "--cluster", "local").stdout
    assert f"distill     {student}" in run(other, "spikedistill", "status").stdout
    assert "is ready" in run(other, "spikedistill", "logs", student).stdout


def test_mistakes_in_the_config_are_all_named_before_any_job(tmp_path):
    folder = copy_project(tmp_path)
    config = json.loads(json.dumps(SMALL))
    digits = config["experiments"]["digits"]
    digits["student"]["time_stepz"] = 3
    digits["methods"]["kdd"] = {}
    digits["dataset"]["name"] = "digit"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = run(folder, "snakemake", "-n")
    assert done.returncode != 0
    assert (
        "config.yaml: experiments.digits.student.time_stepz: unknown key 'time_stepz'. Did you mean 'time_steps'?" in done.stdout
    )
    assert "unknown method 'kdd'. Did you mean 'kd'?" in done.stdout
    assert "unknown dataset 'digit'. Did you mean 'digits'?" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (folder / "store").exists()


def test_a_dry_run_imports_no_torch(tmp_path):
    folder = copy_project(tmp_path)
    marker = folder / "sitecustomize.py"
    marker.write_text(
        "import atexit, sys\natexit.register(lambda: open('modules', 'a').write(str('torch' in sys.modules) + '\\n'))\n"
    )
    done = run(folder, "snakemake", "-n", PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stdout
    assert set(Path(folder / "modules").read_text().split()) == {"False"}


def test_resources_keep_their_spelling_and_a_contradiction_is_told_at_once(tmp_path):
    folder = copy_project(tmp_path)
    command = ("snakemake", "-n", "--set-resources", "distill:gres=gpu:a100:4")
    assert run(folder, *command).returncode == 0
    refused = run(folder, *command, "distill:gpus_per_node=2")
    assert refused.returncode == 1
    assert "distill: resource gres='gpu:a100:4': request GPUs once" in refused.stdout
    assert "Traceback" not in refused.stdout
