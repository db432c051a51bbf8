import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from spikedistill.data.archives import Member
from spikedistill.data.augment import Augment, augment_batch, draw
from spikedistill.data.datasets import digits, digits_dvs
from spikedistill.data.events import decode_aedat2, write_aedat2
from spikedistill.data.frames import FrameParams, Recording, whole_files, write_frames
from spikedistill.data.loader import Loader
from spikedistill.data.simulate import simulate_digits
from spikedistill.data.store import open_store
from spikedistill.errors import ConfigError, DataError
from spikedistill.lazy import torch

FIRST_RECORDINGS_SHA256 = "ccfbadf612bfc7ae58c9bb61de9d791ec2d460fae76fbc8b8e40bd8df8b8a774"

DECODE = whole_files(decode_aedat2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    digits.prepare(digits.Params(), raw=None, out=out, work=out, num_workers=1)
    return open_store(out)


def test_digits_are_the_images_of_scikit_learn_with_other_writers_held_out(images):
    source = load_digits()
    np.testing.assert_array_equal(images.samples[:, 0], source.images * 255 // 16)
    np.testing.assert_array_equal(images.labels, source.target)
    np.testing.assert_array_equal(images.split("test"), np.arange(1437, 1797))
    train = images.samples[:1437] / 255
    assert images.mean == pytest.approx((train.mean(),), abs=1e-6)
    assert images.std == pytest.approx((train.std(),), abs=1e-6)


def test_the_simulated_camera_gives_the_same_bytes_everywhere(tmp_path):
    digest = hashlib.sha256()
    for number, events in enumerate(simulate_digits(load_digits().images[:8].astype(np.int64), 0)):
        path = tmp_path / f"{number}.aedat"
        write_aedat2(path, events)
        digest.update(path.read_bytes())
    assert digest.hexdigest() == FIRST_RECORDINGS_SHA256


def test_a_recording_does_not_depend_on_its_batch():
    source = load_digits().images.astype(np.int64)
    together, alone = simulate_digits(source[:3], 0)[2], simulate_digits(source[2:3], 2)[0]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.diff(together.t) >= 0).all()
    assert together.x.max() < 34 and together.y.max() < 34


def test_every_bad_recording_is_reported_in_one_run(tmp_path):
    events = simulate_digits(load_digits().images[:1].astype(np.int64), 0)[0]
    write_aedat2(tmp_path / "good.aedat", events)
    (tmp_path / "empty.aedat").write_bytes(b"")
    (tmp_path / "page.aedat").write_bytes(b"<html>")
    recordings = [Recording(Member(str(tmp_path / f"{name}.aedat")), name, 0) for name in ("good", "empty", "page")]
    with pytest.raises(DataError) as caught:
        write_frames(recordings, DECODE, FrameParams(num_frames=4), tmp_path, sensor=(34, 34), num_workers=2)
    assert "2 of 3 recordings cannot be used" in str(caught.value)
    assert "empty.aedat" in str(caught.value) and "page.aedat" in str(caught.value)
    assert not (tmp_path / "frames.npy").exists()


def test_frames_keep_every_event(tmp_path):
    recorded = simulate_digits(load_digits().images[:2].astype(np.int64), 0)
    for number, events in enumerate(recorded):
        write_aedat2(tmp_path / f"{number}.aedat", events)
    recordings = [Recording(Member(str(tmp_path / f"{n}.aedat")), str(n), n) for n in range(2)]
    rows = write_frames(recordings, DECODE, FrameParams(num_frames=4), tmp_path, sensor=(34, 34), num_workers=1)
    frames = np.load(tmp_path / "frames.npy")
    assert [row["events"] for row in rows] == [len(e.t) for e in recorded] == frames.sum((1, 2, 3, 4)).tolist()


def test_the_dataset_of_events_describes_what_it_prepares():
    meta = digits_dvs.describe(digits_dvs.Params(num_frames=6))
    assert (meta.kind, meta.num_frames, meta.channels, meta.height, meta.width, meta.num_classes) == ("frames", 6, 2, 34, 34, 10)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_very_batches_that_one_rank_sees(images, world_size):
    settings = {"batch_size": 64, "seed": 3, "augment": Augment(crop_padding=1, flip=True, cutout=2), "shuffle": True}
    alone = list(Loader(images, "train", **settings).epoch(5))
    ranks = [list(Loader(images, "train", **settings, rank=rank, world_size=world_size).epoch(5)) for rank in range(world_size)]
    for step, (inputs, labels) in enumerate(alone):
        assert torch.equal(inputs, torch.cat([rank[step][0] for rank in ranks]))
        assert torch.equal(labels, torch.cat([rank[step][1] for rank in ranks]))


def test_an_epoch_goes_on_in_its_middle(images):
    loader = Loader(images, "train", batch_size=100, seed=1, augment=Augment(crop_padding=2), shuffle=True)
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, start_step=9))
    assert len(rest) == len(whole) - 9
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[9:], rest, strict=True))


def test_epochs_and_seeds_differ_and_every_sample_comes_once(images):
    def order(seed, epoch):
        return torch.cat([labels for _, labels in Loader(images, "train", batch_size=1437, seed=seed, shuffle=True).epoch(epoch)])

    assert not torch.equal(order(0, 0), order(0, 1))
    assert not torch.equal(order(0, 0), order(1, 0))
    assert torch.equal(order(0, 0).sort().values, torch.from_numpy(images.labels[:1437]).sort().values)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_sees_every_sample_once_whatever_the_ranks(images, world_size):
    loaders = [Loader(images, "test", batch_size=50, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = torch.cat([inputs for loader in loaders for inputs, _ in loader.epoch(0)])
    whole = torch.cat([inputs for inputs, _ in Loader(images, "test", batch_size=360).epoch(0)])
    assert sorted(map(tuple, seen.flatten(1).tolist())) == sorted(map(tuple, whole.flatten(1).tolist()))


def test_a_batch_that_ranks_cannot_share_and_one_too_large_are_refused(images):
    with pytest.raises(ConfigError, match="batch_size 64 cannot be shared equally by 3 ranks"):
        Loader(images, "train", batch_size=64, shuffle=True, world_size=3)
    with pytest.raises(ConfigError, match="exceeds the 1437 samples"):
        Loader(images, "train", batch_size=2000, shuffle=True)


def test_augmentation_equals_a_plain_loop_over_samples():
    samples = torch.arange(5 * 2 * 6 * 7).reshape(5, 2, 6, 7)
    words = draw(0, 1, np.arange(5, dtype=np.int64))
    pad, roll = 2, 3
    changed = augment_batch(samples, Augment(crop_padding=pad, flip=True), words)
    rolled = augment_batch(samples, Augment(roll=roll), words)
    for number in range(5):
        word = [int(w) for w in words[number]]
        padded = torch.nn.functional.pad(samples[number], (pad, pad, pad, pad))
        top, left = word[0] % (2 * pad + 1), word[1] % (2 * pad + 1)
        crop = padded[:, top : top + 6, left : left + 7]
        assert torch.equal(changed[number], crop.flip(-1) if word[2] % 2 else crop)
        shift = (word[5] % (2 * roll + 1) - roll, word[6] % (2 * roll + 1) - roll)
        assert torch.equal(rolled[number], samples[number].roll(shift, (-2, -1)))


def test_cutout_blanks_a_square_clipped_at_the_border():
    samples = torch.ones(64, 1, 8, 8)
    words = draw(1, 0, np.arange(64, dtype=np.int64))
    blanked = (augment_batch(samples, Augment(cutout=4), words) == 0).sum((1, 2, 3))
    assert set(blanked.tolist()) <= {a * b for a in (2, 3, 4) for b in (2, 3, 4)}
    assert 16 in blanked.tolist()
