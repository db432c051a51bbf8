"""What other users of this machine can read, write and replace of a job: nothing; and what a job's files hold."""

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from slurm_lab.main_process import wait_for, write_snakefile
from slurm_lab.requirements import require
from slurm_lab.running import environment, run, snakemake
from slurm_lab.stranger import NOBODY, as_nobody, readable
from snakemake_executor_plugin_submitit.jsonfile import write_json
from snakemake_executor_plugin_submitit.private import is_open_to_others, make_folder, own_folder
from snakemake_executor_plugin_submitit.submission.submit import own_job_folder, submit

SECRET = "AKIA-of-the-submitting-shell"
RULES = """
    rule pair:
        output: touch("done")
        resources: tasks_per_node=2, mem_mb=100
        shell:
            "export CHANGED=yes PATH=$PATH:/opt/x; unset DROPPED;"
            "spmd sh -c 'env > env$RANK; while [ ! -e go ]; do sleep 0.1; done'"
"""


@pytest.fixture
def readable_place():
    """A folder that everybody may enter, as pytest's are not."""
    require("another user", (), "run as root", root=True)
    with tempfile.TemporaryDirectory(prefix="private-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def modes(folder):
    return {path: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if not path.is_symlink()}


@pytest.mark.slow
def test_of_a_job_of_two_ranks_nobody_else_can_read_anything_and_no_file_holds_the_environment(readable_place):
    write_snakefile(readable_place, RULES)
    flags = ["--executor", "submitit", "--submitit-cluster", "local", "--jobs", "1"]
    variables = environment(CLOUD_KEY=SECRET, DROPPED="gone")
    with (readable_place / "out").open("wb") as out:
        main = subprocess.Popen(["snakemake", *flags], cwd=readable_place, env=variables, stdout=out, stderr=out, umask=0)
    try:
        wait_for(lambda: (readable_place / "env1").exists(), 60, "both ranks")
        jobs = readable_place / ".snakemake/submitit"
        running = modes(jobs)
        assert any(path.name == "command-0.json" for path in running)
        wrong = {path: oct(mode) for path, mode in running.items() if mode != (0o700 if path.is_dir() else 0o600)}
        assert wrong == {}
        assert readable(jobs) == []
        assert str(readable_place / "Snakefile") in readable(readable_place), "the test can see what is open"
        (readable_place / "go").touch()
        assert main.wait(60) == 0, (readable_place / "out").read_text()
    finally:
        main.kill()
    assert readable(jobs) == []
    holders = [path for path in jobs.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holders == []
    for rank in (0, 1):
        text = (readable_place / f"env{rank}").read_text()
        shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        assert (shown["CLOUD_KEY"], shown["CHANGED"], shown["RANK"]) == (SECRET, "yes", str(rank))
        assert shown["PATH"].endswith(":/opt/x")
        assert "DROPPED" not in shown
        assert (readable_place / f"env{rank}").stat().st_mode & 0o777 == 0o666, "the command has the umask of the submission"


@pytest.mark.slow
def test_a_job_by_itself_and_its_logs_are_private(readable_place):
    former = os.umask(0)
    try:
        job = submit("echo said; sleep 1", cluster="local", folder=readable_place / "a/jobs", name="one", resources={})
        assert job.wait(0.1) == 0
    finally:
        os.umask(former)
    assert "said" in job.log_path.read_text()
    assert {oct(mode) for path, mode in modes(readable_place / "a").items() if path.is_file()} == {"0o600"}
    assert {oct(mode) for path, mode in modes(readable_place / "a").items() if path.is_dir()} == {"0o700"}
    assert readable(readable_place) == []


def test_files_that_are_written_are_private_whatever_the_umask_and_links_are_not_followed(tmp_path):
    former = os.umask(0)
    try:
        write_json(tmp_path / "a.json", {})
        make_folder(tmp_path / "b/c")
    finally:
        os.umask(former)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("b", "b/c")} == {0o700}


def test_users_that_share_a_folder_on_purpose_have_private_folders_in_it(readable_place):
    shared = readable_place / "jobs"
    shared.mkdir()
    os.chown(shared, 1, 1)
    shared.chmod(0o1777)
    mine = own_folder(shared)
    assert mine == shared / pwd.getpwuid(os.geteuid()).pw_name
    assert mine.stat().st_mode & 0o777 == 0o700
    tell = "print(own_folder(pathlib.Path(sys.argv[1])))"
    assert as_nobody(tell, shared).communicate()[0].strip() == str(shared / "nobody")
    assert (shared / "nobody").stat().st_uid == NOBODY
    assert as_nobody(tell, shared).communicate()[0].strip() == str(shared / "nobody"), "it is found again"


def test_a_folder_that_another_user_has_put_there_is_refused(readable_place):
    shared = readable_place / "jobs"
    shared.mkdir()
    shared.chmod(0o1777)
    assert own_folder(shared) == shared
    done = as_nobody("os.mkdir(sys.argv[1], 0o777); os.chmod(sys.argv[1], 0o777)", shared / "train")
    assert done.communicate()[0] == ""
    with pytest.raises(WorkflowError, match="it belongs to another user"):
        submit("true", cluster="local", folder=shared, name="train", resources={})
    assert as_nobody("os.symlink('/root', sys.argv[1])", shared / "link").communicate()[0] == ""
    with pytest.raises(PermissionError, match="it belongs to another user"):
        make_folder(shared / "link")


def test_a_folder_of_another_user_that_is_not_shared_is_named_with_what_to_do(readable_place):
    theirs = readable_place / "jobs"
    theirs.mkdir(0o755)
    program = "from snakemake_executor_plugin_submitit.submission.submit import own_job_folder"
    tell = "\ntry:\n    own_job_folder(pathlib.Path(sys.argv[1]))\nexcept Exception as err:\n    print(err)\n"
    told = as_nobody(tell, theirs, before=program).communicate()[0]
    assert f"{theirs}: it belongs to another user, and a subfolder for this one cannot be created (Permission denied)" in told
    assert "--submitit-folder" in told
    assert own_job_folder(theirs) == theirs


@pytest.mark.slow
def test_a_folder_in_which_others_may_replace_jobs_is_warned_of(tmp_path):
    write_snakefile(tmp_path, "rule one:\n    output: 'a.txt'\n    shell: 'touch {output}'")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs").chmod(0o777)
    assert is_open_to_others(tmp_path / "jobs")
    done = snakemake(tmp_path, "--submitit-folder", "jobs", cluster="local")
    assert done.returncode == 0, done.stdout
    assert "others may replace job folders here" in done.stdout
    (tmp_path / "jobs").chmod(0o3777)
    assert not is_open_to_others(tmp_path / "jobs")


def test_the_note_of_who_holds_a_lock_is_for_all_who_share_the_working_directory(readable_place):
    program = (
        "import os, pathlib; os.umask(0o022)\n"
        "from snakemake_executor_plugin_submitit.tracking.locks import note_owner\n"
        "note_owner(pathlib.Path.cwd(), [])\n"
    )
    assert run(readable_place, "python", "-c", program).returncode == 0
    (note,) = readable_place.glob("owner-*.json")
    assert readable(readable_place) == [str(note)]
