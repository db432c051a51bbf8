"""A preparation that is killed in its middle, and several of the same that are started at once."""

import os
import signal
import subprocess
import time

import yaml

from slurm_lab.running import environment, run
from spikedistill.data.datasets import cifar10_dvs
from spikedistill.data.formats.arrays import HEADER_BYTES
from tests.event_files import cifar10_dvs_files
from tests.files import write_files
from tests.workflow.project import copy_project

COMMAND = ("spikedistill", "run", "data/cifar10-dvs")
PARAMS = {"strict": False, "num_frames": 2}


def start(folder):
    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_until_some_rows_are_written(running, store):
    while running.poll() is None:
        for frames in store.glob(".work/cifar10-dvs-*/scratch/frames-uint8/frames.npy"):
            with frames.open("rb") as stream:
                if any(stream.read(1 << 20)[HEADER_BYTES:]):
                    return
        time.sleep(0.001)
    raise AssertionError(running.communicate()[0])


def processes_of(session):
    listing = subprocess.run(["ps", "-e", "-o", "sid=,stat="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if line.split()[0] == str(session) and "Z" not in line.split()[1]]


def test_of_three_started_at_once_after_one_that_was_killed_one_prepares_and_the_result_is_the_same(tmp_path):
    folder = copy_project(tmp_path / "project")
    write_files(folder / "raw", cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, 60, num_events=2000))
    dataset = {"name": "cifar10-dvs", "root": "raw", "params": PARAMS}
    student = {"arch": "resnet8_dvs", "time_steps": 2, "train": {"epochs": 1, "batch_size": 8}}
    config = {"experiments": {"dvs": {"dataset": dataset, "student": student, "methods": {"tet": {}}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    killed = start(folder)
    wait_until_some_rows_are_written(killed, folder / "store")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert not list(folder.glob("store/data/cifar10-dvs-*"))
    for _ in range(200):
        if not processes_of(killed.pid):
            break
        time.sleep(0.05)
    assert processes_of(killed.pid) == []  # its workers ended with it

    together = [start(folder) for _ in range(3)]
    outputs = [each.communicate(timeout=300)[0] for each in together]
    assert [each.returncode for each in together] == [0, 0, 0], outputs
    [made] = folder.glob("store/data/*")
    assert [path.name for path in folder.glob("store/data/.*")] == []
    assert sum("is not complete" in output for output in outputs) == 1  # one read the recordings
    assert run(folder, "spikedistill", "verify").returncode == 0
    (tmp_path / "alone").mkdir()
    params = cifar10_dvs.Params(**PARAMS)
    cifar10_dvs.prepare(params, raw=folder / "raw", out=tmp_path / "alone", work=tmp_path, num_workers=1)
    for name in ("frames.npy", "index.json", "splits.json"):
        assert (made / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
