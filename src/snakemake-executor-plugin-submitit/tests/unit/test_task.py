"""What the task of a rank sets up for its command, and how it describes a failure."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from slurm_lab.main_process import wait_for
from snakemake_executor_plugin_submitit.job import ranks
from snakemake_executor_plugin_submitit.job.ranks import Member, describe_failure
from snakemake_executor_plugin_submitit.job.task import CommandTask
from snakemake_executor_plugin_submitit.processes import is_group_alive

SAVES = """\
import pathlib, signal, sys, time
def save(*_):
    time.sleep(float(sys.argv[1]))
    pathlib.Path("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("begun").touch()
time.sleep(600)
"""
"""A program that saves its state when it is told to end, which takes some seconds."""


def member(folder):
    return Member(str(folder), rank=0, world_size=1, local_rank=0, node_rank=0, num_nodes=1)


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A task on Slurm whose command is a shell, which ends at once when it is told to, and in it a program that saves."""
    monkeypatch.chdir(tmp_path)

    def task(save_s, **times):
        program = shlex.join([sys.executable, "-c", SAVES, str(save_s)])
        made = CommandTask(f"cd . && {program} && true", str(tmp_path), gpus_per_node=0, cpus_per_task=1, **times)
        made._on_slurm = True
        return made

    return task


def in_background(task, folder):
    """Run the task's command until it has begun its work; return what waits for its end."""
    running = threading.Thread(target=task._run_command, args=(member(folder),))
    running.start()
    wait_for((folder / "begun").exists, 60)
    return running


class Requeued(Exception):
    """Raised where submitit would end the task, in the handler of the signal that announces the time limit."""


def run_to_the_time_limit(task, folder):
    """Run the task's command, and have the time limit announced once it has begun its work, as submitit has it."""

    def announce():
        wait_for((folder / "begun").exists, 60)
        os.kill(os.getpid(), signal.SIGUSR2)

    def handle(number, frame):
        task.checkpoint()
        raise Requeued

    before = signal.signal(signal.SIGUSR2, handle)
    threading.Thread(target=announce).start()
    try:
        with pytest.raises(Requeued):
            task._run_command(member(folder))
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_command_has_its_time_to_save_when_the_time_limit_is_near_and_its_shell_has_none_of_it(training, tmp_path):
    run_to_the_time_limit(training(ranks.TERMINATE_S + 1, time_to_save_s=60), tmp_path)
    assert (tmp_path / "saved").exists()


def test_a_command_that_takes_longer_is_killed(training, tmp_path):
    task = training(600, time_to_save_s=1)
    run_to_the_time_limit(task, tmp_path)
    wait_for(lambda: not is_group_alive(task._child.pid), 60)
    assert not (tmp_path / "saved").exists()


def test_a_command_that_slurm_tells_to_end_saves_before_the_ranks_are_told_that_it_is_over(training, tmp_path):
    task = training(3)
    running = in_background(task, tmp_path)
    task._stop(signal.SIGTERM, None)
    time.sleep(1)
    assert not (tmp_path / ranks.END).exists()
    running.join(60)
    assert (tmp_path / "saved").exists()
    assert (tmp_path / ranks.END).exists()


def test_a_rank_that_was_told_to_end_from_outside_is_not_stopped_by_the_others(training, tmp_path):
    code = (
        "import sys\n"
        "from snakemake_executor_plugin_submitit.job import ranks\n"
        "command = {'argv': sys.argv[1:], 'cwd': '.', 'address': '127.0.0.1', 'port': 1}\n"
        "began = lambda: __import__('os').path.exists('over')\n"
        "print(ranks._run(ranks.Member('.', 0, 2, 0, 0, 1), command, dict(__import__('os').environ), began))\n"
    )
    program = [sys.executable, "-c", SAVES, str(ranks.TERMINATE_S + 1)]
    rank = subprocess.Popen([sys.executable, "-c", code, *program], stdout=subprocess.PIPE, text=True)
    wait_for((tmp_path / "begun").exists, 60)
    rank.terminate()
    time.sleep(1)
    (tmp_path / "over").touch()
    assert "'stopped': True" in rank.communicate(timeout=60)[0]
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("gpus_per_node", "on_slurm", "given", "visible"),
    [
        (1, True, "SLURM_JOB_GPUS", "0"),
        (0, True, "SLURM_JOB_GPUS", "0"),  # as for gres=shard:2
        (0, True, "SLURM_STEP_GPUS", "0"),
        (0, True, None, ""),
        (0, False, "SLURM_JOB_GPUS", ""),  # those of a Slurm job around the main process
        (1, False, None, "0"),
    ],
)
def test_gpus_are_hidden_from_a_job_that_has_none(gpus_per_node, on_slurm, given, visible, tmp_path, monkeypatch):
    environment = {"PATH": os.defpath, "CUDA_VISIBLE_DEVICES": "0"} | ({given: "3"} if given else {})
    monkeypatch.setattr(os, "environ", environment)
    task = CommandTask("true", str(tmp_path), gpus_per_node=gpus_per_node, cpus_per_task=1)
    task._on_slurm = on_slurm
    task._set_environment(member(tmp_path))
    assert environment["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(("status", "words"), [(3, "exit status 3"), (-9, "killed by SIGKILL"), (-40, "killed by signal 40")])
def test_a_failure_is_described_whatever_the_signal(status, words):
    assert describe_failure({"status": status}) == words
