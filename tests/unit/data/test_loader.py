"""Order, sharing among ranks, resumption, and the thread that works ahead."""

import gc
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from spikedistill.data.datasets import digits
from spikedistill.data.formats.decoding import turbo
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading import loader as loader_module
from spikedistill.data.loading.augment import BOX_WORDS, Augment, ResizedCrop, resized_crop_boxes
from spikedistill.data.loading.inputs import InputConfig, Resize
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.prefetch import AHEAD, prefetched
from spikedistill.data.loading.rng import SampleRng, Stream, below, epoch_permutation
from spikedistill.data.prepare.index import write_index
from spikedistill.data.store import open_store
from spikedistill.errors import ConfigError, DataError

EVERYTHING = Augment(crop_padding=1, flip=True, cutout=2, roll=1, rotate=20)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    digits.prepare(digits.Params(), raw=None, out=out, work=out, num_workers=1)
    return open_store(out)


def make_frames(folder, dtype=np.uint8):
    folder.mkdir(exist_ok=True)
    frames = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (60, 3, 2, 6, 6), dtype=dtype, endpoint=True)
    np.save(folder / "frames.npy", frames)
    rows = [{"id": str(i), "label": i % 5, "max": int(frames[i].max())} for i in range(60)]
    splits = {"train": list(range(1, 60)), "test": [0]}
    write_index(folder, kind="frames", class_names=list("abcde"), rows=rows, splits=splits, recipe={})
    return open_store(folder)


@pytest.fixture(params=["resident", "streamed"])
def kept(request, monkeypatch):
    """Whether a split is kept in memory, or read out of the memory-mapped array batch by batch."""
    if request.param == "streamed":
        monkeypatch.setattr(loader_module, "RESIDENT_BYTES", 0)
    return request.param


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_very_batches_that_one_rank_sees(images, kept, world_size):
    settings = {"batch_size": 64, "seed": 3, "augment": EVERYTHING, "shuffle": True}
    alone = list(Loader(images, "train", **settings).epoch(5))
    ranks = [list(Loader(images, "train", **settings, rank=rank, world_size=world_size).epoch(5)) for rank in range(world_size)]
    assert len(alone) == 1437 // 64
    for step, (inputs, labels) in enumerate(alone):
        assert torch.equal(inputs, torch.cat([rank[step][0] for rank in ranks]))
        assert torch.equal(labels, torch.cat([rank[step][1] for rank in ranks]))


def test_an_epoch_goes_on_in_its_middle(images, kept):
    loader = Loader(images, "train", batch_size=100, seed=1, augment=EVERYTHING, shuffle=True)
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, start_step=9))
    assert len(rest) == len(whole) - 9 == 5
    for (inputs, labels), (inputs_again, labels_again) in zip(whole[9:], rest, strict=True):
        assert torch.equal(inputs, inputs_again) and torch.equal(labels, labels_again)


def test_epochs_and_seeds_differ_and_every_sample_comes_once(images):
    def order(seed, epoch):
        return torch.cat([labels for _, labels in Loader(images, "train", batch_size=1437, seed=seed, shuffle=True).epoch(epoch)])

    assert not torch.equal(order(0, 0), order(0, 1))
    assert not torch.equal(order(0, 0), order(1, 0))
    assert torch.equal(order(0, 0).sort().values, torch.from_numpy(images.labels[:1437]).sort().values)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_sees_every_sample_once_whatever_the_ranks(images, kept, world_size):
    loaders = [Loader(images, "test", batch_size=50, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = torch.cat([inputs for loader in loaders for inputs, _ in loader.epoch(0)])
    expected = (torch.from_numpy(images.samples[1437:].copy()).float() / 255 - images.mean[0]) / images.std[0]
    assert sorted(map(tuple, seen.flatten(1).tolist())) == sorted(map(tuple, expected.flatten(1).tolist()))


def test_a_batch_that_ranks_cannot_share_and_one_too_large_are_refused(images):
    with pytest.raises(ConfigError, match="batch_size 64 cannot be shared equally by 3 ranks"):
        Loader(images, "train", batch_size=64, shuffle=True, world_size=3)
    with pytest.raises(ConfigError, match="exceeds the 1437 samples"):
        Loader(images, "train", batch_size=2000, shuffle=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_come_time_first_with_their_counts(tmp_path, kept, dtype):
    store = make_frames(tmp_path / "frames", dtype)
    loader = Loader(store, "train", batch_size=8, shuffle=True)
    for (inputs, labels), (stored, stored_labels) in zip(loader.epoch(1), loader.stored(1), strict=True):
        assert inputs.shape == (3, 8, 2, 6, 6) and inputs.dtype == torch.float32 and inputs.is_contiguous()
        assert torch.equal(inputs.transpose(0, 1), stored.to(torch.int32).float())
        assert torch.equal(labels, stored_labels)


def test_counts_of_two_bytes_are_kept_in_four_if_those_fit(tmp_path, monkeypatch):
    store = make_frames(tmp_path / "frames", np.uint16)
    size = len(store.split("train")) * store.samples[0].size

    def kept_with(limit):
        monkeypatch.setattr(loader_module, "RESIDENT_BYTES", limit)
        return Loader(store, "train", batch_size=8, shuffle=True)._resident

    assert kept_with(4 * size).dtype == torch.int32
    assert kept_with(4 * size - 1) is None


def test_batches_stay_what_they_were_while_others_are_made(tmp_path, kept):
    loader = Loader(make_frames(tmp_path / "frames"), "train", batch_size=8, shuffle=True)
    batches = [inputs for inputs, _ in loader.epoch(0)]
    copies = [inputs.clone() for inputs, _ in loader.epoch(0)]
    assert all(torch.equal(a, b) for a, b in zip(batches, copies, strict=True))


def test_inputs_are_resized_in_training_and_in_evaluation(images):
    inputs = InputConfig(resize=Resize(size=12, antialias=False))
    batch, _ = next(Loader(images, "train", batch_size=4, shuffle=True, inputs=inputs, augment=Augment(flip=True)).epoch(0))
    assert batch.shape == (4, 1, 12, 12)
    batch, _ = next(Loader(images, "test", batch_size=4, inputs=inputs).epoch(0))
    source = torch.from_numpy(images.samples[1437:1441].copy()).float()
    resized = torch.nn.functional.interpolate(source, (12, 12), mode="bilinear").round()
    torch.testing.assert_close(batch, (resized / 255 - images.mean[0]) / images.std[0], rtol=0, atol=1e-5)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_the_thread_ends_with_its_consumer(images, kept):
    loader = Loader(images, "train", batch_size=10, shuffle=True)
    for _ in loader.epoch(0):
        pass
    assert not threads()
    for _ in loader.epoch(0):
        assert threads()
        break
    gc.collect()
    assert not threads()
    with pytest.raises(ZeroDivisionError):
        for step, _ in enumerate(loader.epoch(0)):
            assert 1 / step
    gc.collect()
    assert not threads()


def test_an_error_of_the_thread_is_raised_in_its_turn():
    def make(step):
        if step == 3:
            raise OSError("the disk is gone")
        return step

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in prefetched(make, range(10)):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert not threads()


def test_no_more_is_made_ahead_than_agreed():
    started = []
    steps = prefetched(lambda step: started.append(step) or step, range(100))
    for step in steps:
        assert len(started) <= step + 1 + AHEAD
        if step == 50:
            break
    steps.close()
    assert len(started) <= 51 + AHEAD


@pytest.fixture
def files(tmp_path):
    """A prepared dataset of 12 image files of several sizes, one of them grey."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    out.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (40 + number, 60 - number, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((60 - number, 40 + number))
        (picture.convert("L") if number == 3 else picture).save(raw / f"{number}.JPEG", format="JPEG")
    ImageFiles.save(out, raw, 32)
    rows = [{"id": f"{number}.JPEG", "label": number % 3} for number in range(12)]
    splits = {"train": list(range(8)), "test": list(range(8, 12))}
    known = ((0.5,) * 3, (0.25,) * 3)
    write_index(out, kind="images", class_names="abc", rows=rows, splits=splits, recipe={}, statistics=known)
    return open_store(out)


def test_images_in_files_are_loaded_as_torchvision_would(files):
    from torchvision.transforms import functional as tv

    (batch, labels), *_ = Loader(files, "test", batch_size=4, inputs=InputConfig(center_crop=28)).epoch(0)
    for number, image in zip(range(8, 12), batch, strict=True):
        picture = files.samples.read(number)
        expected = tv.to_tensor(tv.center_crop(tv.resize(picture, 32), 28))
        assert torch.equal(image, tv.normalize(expected, [0.5] * 3, [0.25] * 3))
    assert labels.tolist() == [2, 0, 1, 2]


def test_random_crops_of_files_depend_on_the_random_words_alone(files):
    augment = Augment(random_resized_crop=ResizedCrop(), flip=True, auto_augment="imagenet", cutout=8)
    settings = {"batch_size": 4, "inputs": InputConfig(center_crop=28), "augment": augment, "shuffle": True}
    whole = list(Loader(files, "train", **settings).epoch(1))
    assert whole[0][0].shape == (4, 3, 28, 28)
    assert not torch.equal(whole[0][0], next(Loader(files, "train", **settings).epoch(2))[0])
    assert torch.equal(next(Loader(files, "train", **settings).epoch(1, start_step=1))[0], whole[1][0])
    ranks = [next(Loader(files, "train", **settings, rank=rank, world_size=2).epoch(1))[0] for rank in range(2)]
    assert torch.equal(torch.cat(ranks), whole[0][0])


def test_random_crops_of_files_are_those_of_torchvision_for_the_same_draws(files):
    from torchvision.transforms import functional as tv

    inputs, augment = InputConfig(center_crop=28), Augment(random_resized_crop=ResizedCrop(), flip=True)
    order = epoch_permutation(7, 3, 8)
    (batch, _), *_ = Loader(files, "train", batch_size=8, seed=7, inputs=inputs, augment=augment, shuffle=True).epoch(3)
    rng = SampleRng(7, 3, np.arange(8))
    words, flips = rng.words(Stream.RESIZED_CROP, BOX_WORDS), below(rng.words(Stream.GEOMETRY, 8)[:, 2], 2)
    assert 0 < flips.sum() < 8
    for position, row in enumerate(files.split("train")[order]):
        picture = files.samples.read(int(row))
        box = resized_crop_boxes(augment.random_resized_crop, words[position : position + 1], picture.height, picture.width)[0]
        expected = tv.resized_crop(picture, *box.tolist(), [28, 28])
        expected = tv.to_tensor(tv.hflip(expected) if flips[position] else expected)
        assert torch.equal(batch[position], tv.normalize(expected, [0.5] * 3, [0.25] * 3))


def test_images_are_decoded_to_a_fraction_where_that_was_asked_for(files, monkeypatch):
    divisors = []
    real = turbo.decode
    monkeypatch.setattr(turbo, "decode", lambda *args, divisor, points: divisors.append(divisor) or real(*args, divisor=divisor))
    for decode in ("exact", "fast"):
        next(Loader(files, "test", batch_size=4, inputs=InputConfig(resize=None, decode=decode)).epoch(0))
        augment = Augment(random_resized_crop=ResizedCrop(scale=(1, 1), ratio=(1, 1)))
        inputs = InputConfig(center_crop=12, decode=decode)
        next(Loader(files, "train", batch_size=8, inputs=inputs, augment=augment, shuffle=True).epoch(0))
    assert set(divisors[:12]) == {1} and divisors[12:16] == [1] * 4 and 2 in divisors[16:]


def test_a_damaged_image_and_a_missing_folder_are_named(files, tmp_path):
    (tmp_path / "raw/9.JPEG").write_bytes((tmp_path / "raw/9.JPEG").read_bytes()[:300])
    with pytest.raises(DataError, match=r"raw/9.JPEG: not an image that can be decoded"):
        list(Loader(files, "test", batch_size=4).epoch(0))
    assert not threads()
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"its images are read from .*raw, which does not exist"):
        open_store(tmp_path / "out")
