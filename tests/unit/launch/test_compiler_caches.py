"""Compiled code is kept where only the user can write, found by the next process, and shared by ranks that compile at once."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_lab.requirements import require
from spikedistill.launch import compiler_caches
from spikedistill.launch.compiler_caches import VARIABLES, keep_compiled_code
from spikedistill.store import private

COMPILE = """
import os, sys, torch
from spikedistill.launch.compiler_caches import keep_compiled_code
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
keep_compiled_code()
layer = LIF(NeuronConfig(), 2)
layer.compiled = True
x = torch.linspace(-1, 3, 64).reshape(4, 16).requires_grad_()
layer(x).sum().backward()
print(x.grad.sum().item())
"""


@pytest.fixture
def cache_home(monkeypatch, tmp_path):
    """The user's folder for caches, and no variable of another test."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch removes what the function sets
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def folders():
    return {name: Path(os.environ[name]) for name in VARIABLES}


def test_the_folder_is_the_users_own_and_named_by_what_the_code_depends_on(cache_home):
    keep_compiled_code()
    inductor, triton = folders().values()
    assert inductor.parent == triton.parent
    assert inductor.parent.parent == cache_home / "spikedistill" / "compiled"
    assert f"py{sys.version_info[0]}.{sys.version_info[1]}" in inductor.parent.name
    for place in (inductor.parent, cache_home / "spikedistill"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_another_process_gets_the_same_folder_and_another_processor_another(cache_home, monkeypatch):
    keep_compiled_code()
    first = folders()
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    keep_compiled_code()
    assert folders() == first
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(compiler_caches, "_processor", lambda: "other")
    keep_compiled_code()
    assert not set(folders().values()) & set(first.values())


def test_what_the_user_has_set_stays(cache_home, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    keep_compiled_code()
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(cache_home)


def assert_not_shared(cache_home, caplog, message):
    """The folder is one of this process, and the log says why."""
    keep_compiled_code()
    inductor = folders()["TORCHINDUCTOR_CACHE_DIR"]
    assert not inductor.is_relative_to(cache_home)
    assert stat.S_IMODE(inductor.parent.stat().st_mode) == 0o700
    assert message in caplog.text
    shutil.rmtree(inductor.parent)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o750])
def test_a_folder_that_others_could_write_to_or_read_is_not_used(cache_home, caplog, mode):
    folder = cache_home / "spikedistill"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert_not_shared(cache_home, caplog, f"other users may have written to {folder}: delete it")


def test_a_folder_that_others_could_replace_is_not_used(cache_home, caplog):
    cache_home.mkdir()
    cache_home.chmod(0o777)
    assert_not_shared(cache_home, caplog, f"other users can write to {cache_home}")


def test_a_folder_that_another_group_could_replace_is_not_used(cache_home, caplog, monkeypatch):
    cache_home.mkdir()
    cache_home.chmod(0o775)
    real = Path.stat
    other = os.geteuid() + 12345

    def stat_of(self, **options):
        found = real(self, **options)
        return os.stat_result((*found[:5], other, *found[6:])) if self == cache_home else found

    monkeypatch.setattr(Path, "stat", stat_of)
    assert_not_shared(cache_home, caplog, f"other users can write to {cache_home}")


def test_a_folder_of_another_user_is_not_used(cache_home, caplog, monkeypatch):
    keep_compiled_code()
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(private, "_check_places", lambda folder: None)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert_not_shared(cache_home, caplog, "belongs to another user")


def test_a_link_is_not_followed(cache_home, caplog, tmp_path):
    cache_home.mkdir()
    (tmp_path / "planted").mkdir(mode=0o700)
    (cache_home / "spikedistill").symlink_to(tmp_path / "planted")
    assert_not_shared(cache_home, caplog, "is not a folder")


def test_a_file_system_without_locks_is_not_used(cache_home, caplog, monkeypatch):
    def flock(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(compiler_caches.fcntl, "flock", flock)
    assert_not_shared(cache_home, caplog, "Function not implemented")


def test_a_home_that_cannot_be_written_to_does_not_end_a_job(cache_home, caplog):
    cache_home.write_text("a file, not a folder")
    assert_not_shared(cache_home, caplog, "compiled code is not kept for later jobs")


@pytest.mark.slow
def test_ranks_that_compile_at_once_share_the_folder_and_get_the_same(cache_home):
    require("a C++ compiler", [] if shutil.which("clang++") else ["g++"], "apt-get install g++")
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    results = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], results
    assert results[0][0] == results[1][0]
    built = [file for file in cache_home.rglob("*") if file.suffix in (".so", ".cpp")]
    assert built, "nothing was compiled into the folder"
    again = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, results[0][0])
    assert sorted(file for file in cache_home.rglob("*") if file.suffix in (".so", ".cpp")) == sorted(built)
