"""Every internal of Snakemake that the plugin patches or relies on, one test each.

The plugin itself degrades gracefully where it can if Snakemake moves one of them; then the test of that name fails here, and says
what has to be looked at.
"""

import contextlib
import importlib
import inspect
import io
import pkgutil
import subprocess
import sys
import types

import pytest
import snakemake.cli  # before snakemake.workflow: they import each other
from snakemake_interface_executor_plugins import utils
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from slurm_lab.running import run, snakemake
from snakemake_executor_plugin_submitit.request.quoting import shell_quotes
from snakemake_executor_plugin_submitit.worker.spare import PREFIX


def source(function):
    return inspect.getsource(function)


# tracking/locks.py


@pytest.fixture
def persistence(tmp_path):
    """A working directory of Snakemake's that has locks but no workflow."""
    from snakemake.persistence.file import FilePersistence

    class Locks(FilePersistence):
        def __init__(self):
            self._lockdir, self._lockfile = str(tmp_path), {}

    return Locks()


def test_FilePersistence_write_locks_exists_and_writes_the_files_that_lockfile_lists(persistence, tmp_path):
    persistence._write_locks("output", ["a.txt"])
    (path,) = persistence._lockfile.values()
    assert (tmp_path / "0.output.lock").samefile(path)
    assert (tmp_path / "0.output.lock").read_text() == "a.txt\n"


def test_FilePersistence_init_sets_lockdir_and_lockfile():
    from snakemake.persistence.file import FilePersistence

    text = source(FilePersistence.__init__)
    assert "self._lockdir = " in text
    assert "self._lockfile = dict()" in text


def test_FilePersistence_locked_is_a_property_that_lock_reads_and_write_locks_is_called():
    from snakemake.persistence.file import FilePersistence

    assert isinstance(FilePersistence.locked, property)
    lock = source(inspect.unwrap(FilePersistence.lock))
    assert "if self.locked:" in lock
    callers = {name for name, member in inspect.getmembers(FilePersistence, callable) if _calls(member, "self._write_locks(")}
    assert callers, "nothing calls _write_locks"


def _calls(member, words):
    try:
        return words in source(inspect.unwrap(member))
    except (OSError, TypeError):
        return False


def test_FilePersistence_is_the_persistence_of_workflows_and_is_patched_by_the_settings(tmp_path):
    program = (
        "from snakemake_executor_plugin_submitit import ExecutorSettings\n"
        "from snakemake.persistence.file import FilePersistence\n"
        "ExecutorSettings()\n"
        "assert FilePersistence._write_locks.notes_owner\n"
        "assert FilePersistence.locked.fget.__name__ == 'release_and_look'\n"
    )
    done = run(tmp_path, sys.executable, "-c", program)
    assert done.returncode == 0, done.stdout
    (tmp_path / "Snakefile").write_text(
        "from snakemake.persistence.file import FilePersistence\n"
        "onstart:\n"
        "    print('is file persistence:', isinstance(workflow.persistence, FilePersistence))\n"
        "rule one:\n    output: 'a.txt'\n    shell: 'touch {output}'\n"
    )
    done = run(tmp_path, "snakemake", "--cores", "1")
    assert "is file persistence: True" in done.stdout, done.stdout


# tracking/configfiles.py


def test_ConfigSettings_reads_configfiles_by_load_configfile_of_its_module_after_the_executors_settings():
    from snakemake import cli
    from snakemake.settings import types

    assert "load_configfile(f)" in source(types.ConfigSettings._get_overwrite_config)
    text = source(cli.args_to_api)
    assert 0 < text.index("executor_plugin.get_settings(args)") < text.index("ConfigSettings(")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"a: 2020-13-45", "month must be in 1..12"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b"a: [", "Config file is not valid JSON or YAML"),
        (b"- a", "Config file must be given as JSON or YAML with keys at top level"),
    ],
)
def test_a_configuration_file_that_cannot_be_read_is_named_without_a_traceback(tmp_path, content, why):
    (tmp_path / "Snakefile").write_text("rule one:\n    output: 'a.txt'\n    shell: 'touch {output}'\n")
    if content is not None:
        (tmp_path / "odd.yaml").write_bytes(content)
    done = snakemake(tmp_path, "--configfile", "odd.yaml", cluster="local")
    assert done.returncode != 0
    assert f"--configfile odd.yaml: {why}" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout


# job/shim.py


def test_plugin_registries_list_modules_by_pkgutil_iter_modules_without_arguments():
    from snakemake_interface_common.plugin_registry import PluginRegistryBase

    text = source(PluginRegistryBase.collect_plugins)
    assert "pkgutil.iter_modules():" in text
    assert "moduleinfo.ispkg" in text and "moduleinfo.name" in text


def test_ReportPluginRegistry_collect_plugins_fills_plugins():
    from snakemake_interface_report_plugins.registry import ReportPluginRegistry

    assert "collect_plugins" in vars(ReportPluginRegistry)
    assert "self.plugins" in source(ReportPluginRegistry.__mro__[1].collect_plugins)


def test_Rule_restart_times_is_the_property_that_retries_are_read_from():
    from snakemake.jobs import Job
    from snakemake.rules import Rule

    assert isinstance(Rule.restart_times, property)
    assert "self.rule.restart_times" in source(Job.restart_times.fget)


def test_cli_main_takes_arguments_and_max_jobs_per_timespan(capsys):
    from snakemake.cli import get_argument_parser, main

    assert list(inspect.signature(main).parameters) == ["argv"]
    actions = {option for action in get_argument_parser()._actions for option in action.option_strings}
    assert "--max-jobs-per-timespan" in actions


RECORD = {
    **{"rule": "a", "input": ["x"], "log": [], "shellcmd": "touch y", "params": ["1", 2, None], "code": "c", "job_hash": 3},
    **{"starttime": 1.5, "input_checksums": {"x": "0"}, "of_a_later_version": 1},
}
RECORDS = """
import json, sys
if {shim}:
    from snakemake_executor_plugin_submitit.job import shim
    shim.prepare()
import snakemake.cli
from snakemake.persistence import MetadataRecord
record = MetadataRecord.model_validate({record})
record.endtime = 2
empty = MetadataRecord()
print(json.dumps([dict(record.items()), dict(empty.items()), record["rule"], list(record.keys())]))
loaded = sorted(name for name in ("sqlalchemy", "sqlmodel", "pydantic") if name in sys.modules)
print(*loaded, file=sys.stderr)
"""


def test_MetadataRecord_is_the_same_without_SQLModel(tmp_path):
    found = {}
    for shim in (True, False):
        program = RECORDS.format(shim=shim, record=RECORD)
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        found[shim] = done.stdout
        assert ("sqlmodel" in done.stderr.split()) is not shim, "what the shim leaves out is loaded after all"
    assert found[True] == found[False]


def test_the_shim_starts_snakemake_and_leaves_other_executors_out(tmp_path):
    other = tmp_path / "snakemake_executor_plugin_other"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('another executor was imported')")
    (tmp_path / "Snakefile").write_text("rule one:\n    output: 'a.txt'\n    retries: 3\n    shell: 'echo x >> count; exit 1'\n")
    shim = [sys.executable, "-m", "snakemake_executor_plugin_submitit.job.shim", "--cores", "1"]
    done = run(
        tmp_path, *shim, "--executor", "submitit", "--submitit-cluster", "local", "-j1", "--dry-run", PYTHONPATH=_path(tmp_path)
    )
    assert done.returncode == 0, done.stdout  # it knows this executor, though it is started as `__main__` of a subpackage
    done = run(tmp_path, *shim, PYTHONPATH=_path(tmp_path))
    assert done.returncode != 0
    assert (tmp_path / "count").read_text() == "x\n", "the shim leaves retries to the main process"


def _path(folder):
    package = next(m.module_finder.path for m in pkgutil.iter_modules() if m.name == "snakemake_executor_plugin_submitit")
    return f"{folder}:{package}"


# request/quoting.py


def test_format_cli_arg_quotes_by_format_cli_value_of_its_module():
    odd = """a "b" (it's $c)"""
    with shell_quotes():
        assert utils.format_cli_arg("--file", odd) == """--file 'a "b" (it'"'"'s $c)'"""
        assert utils.format_cli_arg("--files", [odd, "plain"]) == """--files 'a "b" (it'"'"'s $c)' plain"""
    assert utils.format_cli_arg("--file", "plain") == "--file 'plain'"


def test_is_quoted_is_in_utils_and_format_cli_value_has_the_known_parameters():
    assert utils.is_quoted("'a'") and not utils.is_quoted("a")
    assert list(inspect.signature(utils.format_cli_value).parameters) == ["value", "quote", "base64_encode"]


# executor.py


def test_RealExecutor_format_job_exec_calls_snakemake_as_a_module():
    text = source(RealExecutor.format_job_exec)
    assert '"-m snakemake",' in text
    assert "self.get_python_executable()," in text
    assert "self.get_job_args(job)," in text


def test_RealExecutor_get_job_args_takes_a_job_and_RemoteExecutor_adds_only_the_files_to_wait_for():
    assert list(inspect.signature(RealExecutor.get_job_args).parameters) == ["self", "job", "kwargs"]
    text = source(RemoteExecutor.get_job_args)
    assert 'return f"{super().get_job_args(job)} {waitfiles_parameter}"' in text
    assert "job.get_wait_for_files()" in text


def test_RemoteExecutor_wait_thread_prints_an_error_and_calls_executor_error_callback():
    from snakemake.scheduling.job_scheduler import JobScheduler

    text = source(RemoteExecutor._wait_thread)
    assert "print(e)" in text, "if nothing is printed any more, Executor._wait_thread can go"
    assert "self.workflow.scheduler.executor_error_callback(e)" in text
    assert list(inspect.signature(JobScheduler.executor_error_callback).parameters) == ["self", "exception"]


def test_RemoteExecutor_init_starts_the_wait_thread_and_sets_wait_before_post_init():
    text = source(RemoteExecutor.__init__)
    assert text.index("self.wait = True") < text.index("self.wait_thread.start()") < text.index("self.__post_init__()")
    assert "target=self._wait_thread" in text


def test_RemoteExecutor_checks_active_jobs_in_a_loop_and_sleeps_between():
    text = source(RemoteExecutor._wait_for_jobs)
    assert "self.check_active_jobs(active_jobs)" in text
    assert "await self.sleep()" in text


# tracking/folders.py


def test_Workflow_calls_cleanup_workdir_of_the_DAG_at_the_end():
    from snakemake.dag import DAG
    from snakemake.workflow import Workflow

    assert list(inspect.signature(DAG.cleanup_workdir).parameters) == ["self"]
    assert "os.removedirs(" in source(DAG.cleanup_workdir), "if no folders are removed any more, tracking/folders.py can go"
    assert any("self.dag.cleanup_workdir()" in text for text in _sources(Workflow))


def _sources(cls):
    for _, member in inspect.getmembers(cls, callable):
        with contextlib.suppress(OSError, TypeError):
            yield source(inspect.unwrap(member))


# tracking/adoption.py


def test_DAGSettings_has_what_forces_jobs():
    from snakemake.settings.types import DAGSettings

    assert {"forceall", "forcerun", "forcetargets"} <= set(DAGSettings.__dataclass_fields__)


def test_persistence_finished_is_a_coroutine_that_Workflow_async_run_runs():
    from snakemake.persistence.file import FilePersistence
    from snakemake.workflow import Workflow

    assert inspect.iscoroutinefunction(FilePersistence.finished)
    assert list(inspect.signature(FilePersistence.finished).parameters) == ["self", "job"]
    assert list(inspect.signature(Workflow.async_run).parameters) == ["self", "coro"]


def test_DAG_lists_jobs_and_says_which_need_to_run():
    from snakemake.dag import DAG

    assert isinstance(DAG.jobs, property)
    assert list(inspect.signature(DAG.needrun).parameters) == ["self", "job"]


def test_jobs_have_the_attributes_that_the_executor_reads():
    from snakemake.jobs import GroupJob, Job

    for name in ("get_wait_for_files", "is_group", "resources", "threads", "output", "input", "jobid"):
        assert hasattr(Job, name) or name in source(Job.__init__), name
        assert hasattr(GroupJob, name) or name in source(GroupJob.__init__), name
    assert hasattr(Job, "shellcmd")
    assert hasattr(Job, "name")
    assert hasattr(Job, "wildcards") or "wildcards" in source(Job.__init__)


def test_persistence_and_jobs_tell_what_a_digest_is_of():
    from snakemake.jobs import Job
    from snakemake.persistence.file import FilePersistence
    from snakemake.rules import Rule
    from snakemake.sourcecache import LocalSourceFile, SourceFile

    for name, parameters in {"_code": ["self", "rule"], "_input": ["self", "job"]}.items():
        assert list(inspect.signature(inspect.unwrap(getattr(FilePersistence, name))).parameters) == parameters
    assert isinstance(FilePersistence._serialize_param, property)
    assert isinstance(Job.non_derived_params, property)
    assert list(inspect.signature(Job._path_to_source_file).parameters) == ["self", "path"]
    assert "self._path_to_source_file(path)" in source(Job.outputs_older_than_script_or_notebook)
    assert "path = self.rule.script or self.rule.notebook" in source(Job.outputs_older_than_script_or_notebook)
    assert {"self.script = None", "self.notebook = None"} <= {line.strip() for line in source(Rule.__init__).splitlines()}
    assert LocalSourceFile("a.py").get_path_or_uri(secret_free=True) == "a.py"
    assert isinstance(SourceFile.is_local, property) and LocalSourceFile("a.py").is_local


def test_input_files_carry_their_flags():
    from snakemake.io import ancient

    assert ancient("a.txt").flags["ancient"]


# submission/slurm_executor.py, of submitit


def test_submitits_executor_submits_by_what_the_plugin_replaces():
    from submitit import SlurmExecutor
    from submitit.core.core import PicklingExecutor

    assert "self._internal_process_submissions(" in source(SlurmExecutor.submit)
    assert list(inspect.signature(PicklingExecutor._submit_command).parameters) == ["self", "command"]
    text = source(PicklingExecutor._submit_command)
    for name in ("_make_submission_file_text", "_num_tasks", "move_temporary_file"):
        assert name in text
    assert 'array_ex.parameters["map_count"] = n' in source(SlurmExecutor._internal_process_submissions)


# tracking/cancelled.py


def test_JobScheduler_retries_while_attempt_is_at_most_restart_times_and_gives_resources_back_before():
    from snakemake.jobs import GroupJob, Job
    from snakemake.scheduling.job_scheduler import JobScheduler

    text = source(JobScheduler._handle_error)
    assert "if job.restart_times > job.attempt - 1:" in text
    assert text.index("_free_resources(job)") < text.index("restart_times > ")
    for kind in (Job, GroupJob):
        assert "return self._attempt" in source(kind.attempt.fget)
        assert "_attempt" in kind.__slots__


# pool/command.py and worker/child.py


def test_the_command_of_a_job_is_a_plain_call_that_a_worker_can_fork_for():
    text = source(RealExecutor.format_job_exec)
    order = ["prefix,", "self.get_envvar_declarations(),", "precommand,", "self.get_python_executable(),", '"-m snakemake",']
    assert [text.index(each) for each in order] == sorted(text.index(each) for each in order)
    assert 'prefix += " &&"' in text


def test_shell_starts_a_command_by_Popen_of_its_module_sp_and_waits_for_it(monkeypatch):
    module = importlib.import_module("snakemake.shell")  # `snakemake.shell` may be the class in it
    seen = []

    class Processes:
        PIPE, CalledProcessError = subprocess.PIPE, subprocess.CalledProcessError

        def Popen(self, command, **options):
            seen.append((command.split(), options["shell"], options["stdout"], options["env"]["OMP_NUM_THREADS"]))
            return types.SimpleNamespace(wait=lambda: 7)

    monkeypatch.setattr(module, "sp", Processes())
    assert module.STDOUT is None or isinstance(module.STDOUT, io.TextIOWrapper)
    monkeypatch.setattr(module, "STDOUT", None)
    with pytest.raises(subprocess.CalledProcessError, match="status 7"):
        module.shell("some command", threads=3)
    assert seen == [([*PREFIX.split(), "some", "command"], True, None, "3")]


def test_local_Executor_job_args_and_prepare_gives_rule_and_plain_inputs_first_and_Namedlist_maps_them():
    from snakemake.executors.local import Executor, run_wrapper
    from snakemake.iocontainers import InputFiles

    text = source(Executor.job_args_and_prepare)
    assert "job.rule,\n            job.input._plainstrings()," in text
    assert list(inspect.signature(run_wrapper).parameters)[:2] == ["job_rule", "input"]
    assert "self.job_args_and_prepare(job)" in source(Executor.run_single_job)
    inputs = InputFiles(fromdict={"data": "a", "more": "b"})
    mapped = InputFiles(toclone=inputs, custom_map={"a": "/copy/a"}.get)
    assert (mapped.data, list(inputs.items())) == ("/copy/a", [("data", "a"), ("more", "b")])


def test_Snakemake_starts_no_thread_while_it_is_imported(tmp_path):
    program = (
        "import os; from snakemake_executor_plugin_submitit.worker.warm import WarmModules\n"
        "print(WarmModules().load((), cpus=1), len(os.listdir('/proc/self/task')))"
    )
    done = run(tmp_path, sys.executable, "-c", program)
    assert done.stdout.split()[-2:] == ["[]", "1"], done.stdout
