"""Which of the jobs that an earlier main process left behind are adopted; with real files, and what squeue would say."""

import json
import logging
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from slurm_lab.main_process import write_program
from slurm_lab.running import run
from snakemake_executor_plugin_submitit.executor import Executor
from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.pool.service import PoolService
from snakemake_executor_plugin_submitit.request.pooling import PoolSize
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.submission import submit
from snakemake_executor_plugin_submitit.submission.states import SlurmQueue
from snakemake_executor_plugin_submitit.tracking import adoption
from snakemake_executor_plugin_submitit.tracking.adoption import Adopter, digests_of
from snakemake_executor_plugin_submitit.tracking.locks import release_stale
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission, ticket_of
from snakemake_executor_plugin_submitit.tracking.tracked import TrackedJob
from snakemake_executor_plugin_submitit.worker.tickets import CLAIMS


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Two jobs of which squeue says that they run; the registry, and the submissions with their only records."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    write_program(tmp_path / "bin", "squeue", "#!/bin/sh\necho '5|RUNNING|None|node1'\necho '6|RUNNING|None|node1'\n")
    write_program(tmp_path / "bin", "sacct", "#!/bin/sh\necho '6|OUT_OF_MEMORY|None|node1'\n")
    registry, jobs = Registry(tmp_path), []
    for job_id in ("5", "6"):
        job_dir = tmp_path / job_id / "1"
        job_dir.mkdir(parents=True)
        record = Record(job_id, str(job_dir), (f"/out{job_id}",))
        jobs.append((Submission(str(job_dir), [record], is_array=False, job_id=job_id), record))
        registry.note(jobs[-1][0])
    return registry, jobs


def adopted_id(adopter, output, job=None):
    found = adopter.find([output], job)
    return None if found is None else found[2].job_id


def adopter_of(registry, dag=None, **options):
    settings = {"forceall": False, "forcerun": frozenset(), "forcetargets": False, "targets": frozenset()} | options
    workflow = SimpleNamespace(dag_settings=SimpleNamespace(**settings), default_target="first", dag=dag)
    return Adopter(registry, SlurmQueue(), workflow, logging.getLogger())


TRIGGERS = ("MTIME", "PARAMS", "INPUT", "SOFTWARE_ENV", "CODE")


def job_of(code="true", *, params=(), inputs=(), resources=(), jobid=1, triggers=TRIGGERS):
    """A job as Snakemake gives it to an executor, as far as its digest and its rule go."""
    persistence = SimpleNamespace(
        _code=lambda rule: rule.shellcmd, _input=lambda job: job.input, _serialize_param=lambda value: repr(value)
    )
    workflow = SimpleNamespace(persistence=persistence, sourcecache=SimpleNamespace(runtime_cache_path=f"/tmp/run{jobid}"))
    workflow.rerun_triggers = [SimpleNamespace(name=name) for name in triggers]
    return SimpleNamespace(
        **{
            "rule": SimpleNamespace(name="train", shellcmd=code, script=None, notebook=None),
            "input": list(inputs),
            "non_derived_params": list(params),
        },
        **{"dag": SimpleNamespace(workflow=workflow), "rules": lambda: ["train"], "is_group": lambda: False},
        **{"resources": dict(resources), "jobid": jobid},
    )


def group_of(*jobs):
    return SimpleNamespace(jobs=list(jobs), is_group=lambda: True, rules=lambda: {job.rule.name for job in jobs})


def note_digests(left_behind, job, **change):
    """Write the note of job 5 anew, as if it had been submitted for this job."""
    registry, [(submission, record), _] = left_behind
    submission.records = [replace(record, digests=digests_of(job))]
    for name, value in change.items():
        setattr(submission, name, value)
    registry.note(submission)
    return submission, submission.records[0]


@pytest.fixture
def cancelled(monkeypatch):
    """The ids of the jobs that were cancelled."""
    ids = []
    monkeypatch.setattr(adoption.states, "cancel", ids.extend)
    return ids


def test_an_adopted_job_that_ended_without_a_result_is_not_adopted_again(left_behind):
    registry, [job, _] = left_behind
    adopter = adopter_of(registry)
    assert adopted_id(adopter, "/out5") == "5"
    assert adopted_id(adopter, "/out5") == "5", "several jobs may adopt that of a group"
    registry.mark_reported(*job)
    assert adopted_id(adopter, "/out5") is None


def test_slurm_is_asked_again_when_its_answer_is_old(left_behind, tmp_path, monkeypatch):
    registry, _ = left_behind
    adopter = adopter_of(registry)
    assert adopted_id(adopter, "/out5") == "5"
    write_program(tmp_path / "bin", "squeue", "#!/bin/sh\necho '5|RUNNING|None|node1'\n")
    assert adopted_id(adopter, "/out6") == "6", "one answer is for all jobs that become ready together"
    monkeypatch.setattr(adoption, "STATE_CACHE_S", 0.0)
    assert adopted_id(adopter, "/out6") is None


def test_what_a_former_version_noted_is_read(left_behind, tmp_path):
    registry, _ = left_behind
    for note in (tmp_path / "registry").iterdir():
        note.write_text(json.dumps({"cluster": "slurm"} | json.loads(note.read_text())))
    assert adopted_id(adopter_of(registry), "/out5") == "5"


@pytest.mark.parametrize("content", ["[]", "{}", "5", "null", '{"records": 3}', '{"records": [{}]}', '{"records": [], "x": 1}'])
def test_a_damaged_note_of_a_submission_is_left_alone(left_behind, tmp_path, content):
    registry, _ = left_behind
    (tmp_path / "registry/damaged.json").write_text(content)
    assert adopted_id(adopter_of(registry), "/out5") == "5"


@pytest.mark.parametrize("content", ["[]", "{}", "5", '{"status": null}', '{"status": "x"}', "[" * 100_000])
def test_a_damaged_result_is_none(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("content", ["[]", "{}", "5", '{"process": {}, "files": {}}', '{"process": 3}'])
def test_a_damaged_note_of_a_lock_releases_nothing(tmp_path, content):
    (tmp_path / "0.output.lock").write_text("a.txt")
    (tmp_path / "owner-1.json").write_text(content)
    release_stale(tmp_path)
    assert (tmp_path / "0.output.lock").exists()


@pytest.mark.parametrize(
    "now",
    [job_of("other"), job_of(params=[3]), job_of(inputs=["b"]), group_of(job_of(), job_of("other"))],
    ids=["code", "params", "input", "group"],
)
def test_a_job_that_computes_something_else_is_cancelled_and_submitted_anew(left_behind, cancelled, caplog, now):
    note_digests(left_behind, job_of())
    adopter = adopter_of(left_behind[0])
    assert adopted_id(adopter, "/out5", now) is None
    assert cancelled == ["5"]
    assert "5: slurm job 5 of an earlier run is cancelled because its code, params or inputs have changed" in caplog.text
    assert not adopter._left.producers_of(["/out5"]), "no other job of this run may adopt it"
    assert adopted_id(adopter, "/out6", now) == "6", "of that one it is not known"


def test_only_what_the_rerun_triggers_are_about_is_compared(left_behind, cancelled):
    note_digests(left_behind, job_of(triggers=("MTIME", "INPUT")))
    for now in (job_of("other", triggers=("MTIME", "INPUT")), job_of("other"), job_of("other", triggers=("MTIME",))):
        assert adopted_id(adopter_of(left_behind[0]), "/out5", now) == "5"
    assert cancelled == []
    assert adopted_id(adopter_of(left_behind[0]), "/out5", job_of(inputs=["b"], triggers=("MTIME", "INPUT"))) is None
    assert cancelled == ["5"]


def test_a_job_is_adopted_whatever_its_resources_and_though_nothing_is_known_of_it_now(left_behind, cancelled):
    note_digests(left_behind, job_of("python /tmp/run1/a.py", params=[{"a", "b"}]))
    same = job_of("python /tmp/run2/a.py", params=[{"b", "a"}], resources={"mem_mb": 7}.items(), jobid=2)
    for now in (same, SimpleNamespace(is_group=lambda: False), None):
        assert adopted_id(adopter_of(left_behind[0]), "/out5", now) == "5"
    assert cancelled == []


def test_jobs_adopt_that_of_their_group_when_others_of_it_are_done(left_behind):
    note_digests(left_behind, group_of(job_of("a"), job_of("b")))
    for now in (job_of("b"), group_of(job_of("b"))):
        assert adopted_id(adopter_of(left_behind[0]), "/out5", now) == "5"


@pytest.mark.parametrize(
    "options",
    [
        {"forceall": True},
        {"forcerun": frozenset(["train"])},
        {"forcerun": frozenset(["/out5"])},
        {"forcetargets": True, "targets": frozenset(["train"])},
    ],
)
def test_a_forced_job_is_cancelled_and_submitted_anew(left_behind, cancelled, caplog, options):
    note_digests(left_behind, job_of())
    assert adopted_id(adopter_of(left_behind[0], **options), "/out5", job_of()) is None
    assert cancelled == ["5"]
    assert "is cancelled because this run was told to make its files anew" in caplog.text


@pytest.mark.parametrize("options", [{"forcerun": frozenset(["other", "/out6"])}, {"forcetargets": True}])
def test_a_job_is_adopted_when_only_others_are_forced(left_behind, cancelled, options):
    note_digests(left_behind, job_of())
    assert adopted_id(adopter_of(left_behind[0], **options), "/out5", job_of()) == "5"
    assert cancelled == []


def test_a_pooled_job_that_computes_something_else_is_stopped_and_its_worker_is_not(left_behind, cancelled, caplog, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    _, record = note_digests(left_behind, job_of(), folder=str(pool), is_pool=True, job_id=None)
    claim = pool / CLAIMS / "5.0" / f"00000001-{ticket_of(record)}.json"
    claim.parent.mkdir(parents=True)
    claim.write_text("{}")
    assert adopted_id(adopter_of(left_behind[0]), "/out5", job_of()) == "5"
    assert adopted_id(adopter_of(left_behind[0]), "/out5", job_of("other")) is None
    assert not claim.exists() and cancelled == []
    assert "5: slurm job 5 of an earlier run stops it because its code, params or inputs have changed" in caplog.text


@pytest.mark.parametrize(("code", "recorded"), [("true", ["job"]), ("other", [])])
def test_work_that_was_finished_meanwhile_counts_as_that_of_the_rule_only_if_it_is(left_behind, caplog, code, recorded, tmp_path):
    _, record = note_digests(left_behind, job_of())
    (tmp_path / "5/1/result.json").write_text('{"status": 0}')
    now, done = job_of(code), []
    now.output = record.outputs
    dag = SimpleNamespace(jobs=[now], needrun=lambda job: False)
    workflow = SimpleNamespace(dag=dag, persistence=SimpleNamespace(finished=lambda job: "job"), async_run=done.append)
    Adopter(left_behind[0], SlurmQueue(), workflow, logging.getLogger())
    assert done == recorded
    assert ("--forcerun train makes its files anew" in caplog.text) is not recorded
    assert record.is_reported is bool(recorded)


@pytest.mark.parametrize("code", ["true", "other"])
def test_work_that_was_finished_meanwhile_is_accepted_only_if_the_job_is_the_same(left_behind, code, tmp_path):
    _, [job, _] = left_behind
    out = tmp_path / "out"
    out.touch()
    left_behind[1][0] = (job[0], replace(job[1], outputs=(str(out),)))
    note_digests(left_behind, job_of())
    (tmp_path / "5/1/result.json").write_text('{"status": 0}')
    dag = SimpleNamespace(jobs=[])
    assert adopted_id(adopter_of(left_behind[0], dag), str(out), job_of(code)) == ("5" if code == "true" else None)


# what is noted


def tracked_job(tmp_path, **more):
    return TrackedJob(SubmittedJobInfo(job_of(), aux={}), Request(), "command", "a", (str(tmp_path / "out"),), **more)


def test_a_submitted_job_is_noted_with_what_it_computes(tmp_path, monkeypatch):
    executor = Executor.__new__(Executor)
    executor._folder, executor._done_dir, executor._cluster, executor._comment = tmp_path, tmp_path / "done", "slurm", ""
    executor._registry, executor.logger = Registry(tmp_path), logging.getLogger()
    executor._notices = SimpleNamespace(submitted=lambda *_: None)
    executor._plan = lambda tracked: SimpleNamespace(job_dir=tmp_path / "a")
    executor._note_submitted = lambda *_: None
    monkeypatch.setattr(submit, "send", lambda *_, **__: [SimpleNamespace(job_id="7")])
    executor._submit([tracked_job(tmp_path)])
    [submission] = Registry(tmp_path).read()
    assert submission.records[0].digests == digests_of(job_of()) != ()


def test_a_job_in_a_pool_is_noted_with_what_it_computes(tmp_path):
    host = SimpleNamespace(
        **{"folder": tmp_path, "done_dir": tmp_path / "done", "cluster": "slurm", "registry": Registry(tmp_path)},
        **{"logger": logging.getLogger(), "tracked": {}},
    )
    service = PoolService(host, minutes=1, preload=())
    service._is_open = False  # starts no workers
    service.enqueue([tracked_job(tmp_path, size=PoolSize(1))])
    [submission] = Registry(tmp_path).read()
    assert submission.is_pool and submission.records[0].digests == digests_of(job_of()) != ()


# digests of real jobs

SNAKEFILE = """
import json, os, types
from snakemake_executor_plugin_submitit.tracking.adoption import digests_of

onstart:
    found = {job.rule.name: digests_of(job) for job in workflow.dag.jobs}
    found["group"] = digests_of(types.SimpleNamespace(is_group=lambda: True, jobs=list(workflow.dag.jobs)))
    with open("digests.json", "w") as file:
        json.dump(found, file)
    os._exit(0)  # no job has to run

rule all:
    input: "code", "text", "script", "param", "input", "same"
rule code:
    output: touch("code")
    shell: "true CODE"
rule text:
    output: touch("text")
    run:
        print("CODE")
rule script:
    output: touch("script")
    params: name="a"
    script: "{params.name}.py"
rule param:
    output: touch("param")
    params: step=config["step"]
    shell: "true {params.step}"
rule input:
    input: config["file"]
    output: touch("input")
    shell: "true"
rule same:
    input: "Snakefile"
    output: touch("same")
    params:
        names={"a", "b", "c", "d"},
        call=[len, print],
        script=workflow.source_path("Snakefile"),
        cpus=lambda wildcards, threads: threads,
    threads: config["cpus"]
    resources: mem_mb=config["cpus"]
    shell: "true {params.names} {threads} " + workflow.source_path("Snakefile")
"""


def real_digests(folder, seed, code, **config):
    (folder / "Snakefile").write_text(SNAKEFILE.replace("CODE", code))
    (folder / "other").touch()
    (folder / "a.py").write_text(f"print('{code}')")
    values = [f"{name}={value}" for name, value in config.items()]
    command = (sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", "--config", *values)
    done = run(folder, *command, PYTHONHASHSEED=str(seed), PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stdout
    return json.loads((folder / "digests.json").read_text())


@pytest.mark.slow
def test_a_digest_tells_code_params_and_inputs_and_is_the_same_in_each_run(tmp_path):
    first = real_digests(tmp_path, 1, "one", step=1, file="Snakefile", cpus=1)
    assert first["script"][0].startswith("code,script,"), "what earlier versions noted, without the script, is not compared"
    assert all(len(found) == 1 for name, found in first.items() if name != "group"), first
    assert set(first["group"]) == {digest for name, found in first.items() if name != "group" for digest in found}
    later = real_digests(tmp_path, 2, "two", step=2, file="other", cpus=2)
    assert {name for name in first if later[name] != first[name]} == {"code", "text", "script", "param", "input", "group"}, (
        "and `all` and `same` are the same"
    )
