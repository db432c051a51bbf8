"""A preparation that is killed goes on where it was, and its result is the same to the bit."""

import contextlib
import json
import random
import shutil
import time

import numpy as np
import pytest

from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import Events, decode_aedat2
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.recordings.write import write_frames
from tests import image_files, preparation
from tests.event_files import aedat2_bytes, n_mnist_files
from tests.files import contents, write_files
from tests.preparation import STORAGES, prepared, write_imagenet


def kill_several_times(dataset, raw, folder, params, times):
    """Kill a preparation at random moments, each time after something more was journaled; return what the last run said."""
    moments = random.Random(7)
    for _ in range(times):
        before = preparation.journaled(folder / "work")
        running = preparation.start(dataset, raw, folder, params=params, workers=2, slow_s=0.004)
        while preparation.journaled(folder / "work") <= before and running.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.1))
        assert running.poll() is None, "it was done before it could be killed: " + running.communicate()[0]
        preparation.kill(running)
        assert not list((folder / "out").iterdir())
    return preparation.finish(preparation.start(dataset, raw, folder, params=params, workers=2))


def write_n_mnist(folder, per_class=6):
    for part in ("Train", "Test"):
        write_files(folder / part, n_mnist_files(part, per_class))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_images_are_the_same_after_several_kills(tmp_path, storage):
    raw = write_imagenet(tmp_path / "raw")
    params = {"strict": False, **STORAGES[storage]}
    said = kill_several_times("imagenet", raw, tmp_path / "killed", params, times=3)
    assert "going on: " in said
    assert contents(tmp_path / "killed" / "out") == prepared("imagenet", raw, tmp_path / "whole", **STORAGES[storage])


@pytest.mark.slow
def test_frames_are_the_same_after_several_kills(tmp_path):
    raw = write_n_mnist(tmp_path / "raw")
    params = {"strict": False, "num_frames": 3}
    said = kill_several_times("n-mnist", raw, tmp_path / "killed", params, times=3)
    assert "going on: " in said
    assert contents(tmp_path / "killed" / "out") == prepared("n-mnist", raw, tmp_path / "whole", num_frames=3)


def test_what_is_done_is_not_done_again(tmp_path, decoded):
    raw = write_imagenet(tmp_path / "raw")
    first = prepared("imagenet", raw, tmp_path, **STORAGES["array"])
    assert decoded.sum() == 192
    shutil.rmtree(tmp_path / "out")
    assert prepared("imagenet", raw, tmp_path, **STORAGES["array"]) == first
    assert decoded.sum() == 192


@pytest.mark.parametrize("storage", ["array", "packed"])
def test_of_a_source_that_changed_only_its_block_is_made_again(tmp_path, decoded, caplog, storage):
    raw = write_imagenet(tmp_path / "raw")
    prepared("imagenet", raw, tmp_path, **STORAGES[storage])
    shutil.rmtree(tmp_path / "out")
    changed = sorted((raw / "train").rglob("*.JPEG"))[100]
    changed.write_bytes(image_files.jpeg(2, 999))
    before = decoded.sum()
    with caplog.at_level("INFO"):
        again = prepared("imagenet", raw, tmp_path, **STORAGES[storage])
    assert 0 < decoded.sum() - before <= 16 + 48  # a block, and what is looked at to estimate the space
    assert "blocks were made again: their files have changed since" in caplog.text
    assert again == prepared("imagenet", raw, tmp_path / "whole", **STORAGES[storage])


def test_with_other_parameters_in_the_same_folder_everything_is_made_anew(tmp_path, caplog):
    raw = write_imagenet(tmp_path / "raw", per_class=4)
    prepared("imagenet", raw, tmp_path, storage="files")
    shutil.rmtree(tmp_path / "out")
    with caplog.at_level("INFO"):
        again = prepared("imagenet", raw, tmp_path, storage="files", side=24)
    assert "starting anew" in caplog.text
    assert again == prepared("imagenet", raw, tmp_path / "whole", storage="files", side=24)


@pytest.mark.parametrize("storage", ["array", "packed"])
def test_blocks_that_are_not_as_they_were_written_are_made_again(tmp_path, caplog, storage):
    raw = write_imagenet(tmp_path / "raw")
    first = prepared("imagenet", raw, tmp_path, **STORAGES[storage])
    shutil.rmtree(tmp_path / "out")
    torn = next(path for path in sorted((tmp_path / "work" / storage).rglob("*")) if path.suffix in (".npy", ".bin"))
    with torn.open("r+b") as stream:
        stream.seek(torn.stat().st_size // 2)
        stream.write(b"torn by a power cut")
    with caplog.at_level("INFO"):
        assert prepared("imagenet", raw, tmp_path, **STORAGES[storage]) == first
    assert "are not as they were written: made again" in caplog.text


@pytest.mark.parametrize("damage", ["cut off", "altered", "zeros"])
def test_a_damaged_journal_costs_only_the_blocks_that_it_no_longer_tells(tmp_path, damage):
    raw = write_imagenet(tmp_path / "raw")
    first = prepared("imagenet", raw, tmp_path, **STORAGES["array"])
    shutil.rmtree(tmp_path / "out")
    [journal] = (tmp_path / "work").rglob("journal-*.jsonl")
    content = bytearray(journal.read_bytes())
    if damage == "cut off":
        del content[len(content) // 2 :]
    elif damage == "altered":
        content[len(content) // 2] ^= 1
    else:
        content[:100] = bytes(100)
    journal.write_bytes(content)
    assert prepared("imagenet", raw, tmp_path, **STORAGES["array"]) == first


def test_progress_is_written_where_others_can_read_it(tmp_path):
    raw = write_imagenet(tmp_path / "raw")
    params = {"strict": False, "storage": "files"}
    running = preparation.start("imagenet", raw, tmp_path, params=params, workers=2, slow_s=0.02)
    seen = []
    while running.poll() is None:
        with contextlib.suppress(OSError):
            seen.append(json.loads((tmp_path / "work" / "progress.json").read_text()))
        time.sleep(0.05)
    preparation.finish(running)
    assert seen and all(note["total"] == 192 and note["unit"] == "images" for note in seen)


def write_recordings(folder, counts):
    """Recordings whose events all fall on one pixel, so many of each."""
    recordings = []
    for number, count in enumerate(counts):
        events = Events(*(np.full(count, value) for value in (0, 5, 6, 1)))
        (folder / f"{number}.aedat").write_bytes(aedat2_bytes(events._replace(t=np.arange(count))))
        recordings.append(Recording(Member(str(folder / f"{number}.aedat")), f"a/{number}", 0))
    return recordings


def test_frames_of_16_bits_go_on_and_become_8_bits_if_that_is_enough_after_all(tmp_path):
    params = FrameParams(num_frames=1)
    (tmp_path / "out").mkdir()

    def write(counts):
        found = write_frames(
            write_recordings(tmp_path, counts),
            whole_files(decode_aedat2),
            params,
            tmp_path / "out",
            sensor=(128, 128),
            num_workers=2,
            work=tmp_path,
        )
        return np.load(tmp_path / "out" / "frames.npy"), len(found)

    for counts, dtype in (([20, 300, 70], np.uint16), ([20, 300, 70], np.uint16), ([20, 200, 70], np.uint8)):
        frames, number = write(counts)
        assert frames.dtype == dtype and number == 3
        assert frames.sum(axis=(1, 2, 3, 4)).tolist() == counts
        assert [folder.name for folder in tmp_path.glob("frames-*")] == [f"frames-{np.dtype(dtype).name}"]
