"""Samples that are both to train and to test on, by their place or by their content; recordings that hide each other."""

import logging
import shutil

import numpy as np
import pytest

from spikedistill.data.datasets import cifar10, cifar10_dvs, dvs128_gesture, imagenet, n_mnist
from spikedistill.data.datasets.dvs128_gesture import read_labels
from spikedistill.data.formats.archives import Member
from spikedistill.data.prepare import splits
from spikedistill.data.prepare.index import write_index
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests import image_files
from tests.event_files import cifar10_dvs_files, gesture_files, n_mnist_files, write_zip
from tests.files import write_files

SMALL = {"num_frames": 2, "height": 16, "width": 16}


def prepare(dataset, raw, **params):
    out, work = raw.parent / "out", raw.parent / "work"
    for folder in (out, work):
        folder.mkdir(exist_ok=True)
    frames = {} if dataset in (cifar10, imagenet) else SMALL
    dataset.prepare(dataset.Params(**{**frames, "strict": False, **params}), raw=raw, out=out, work=work, num_workers=1)
    return open_store(out)


def refusal(dataset, raw, **params):
    with pytest.raises(DataError) as caught:
        prepare(dataset, raw, **params)
    return str(caught.value)


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def gesture(raw, monkeypatch):
    """DVS128 Gesture, complete, of one trial to train on and one to test on."""
    monkeypatch.setattr(dvs128_gesture, "COUNTS", {"train": 12, "test": 12})
    return write_files(raw, gesture_files({"train": ["user01_led"], "test": ["user24_led"]}))


@pytest.mark.parametrize("strict", [True, False])
def test_a_trial_in_both_lists_is_an_error(gesture, strict):
    (gesture / "trials_to_test.txt").write_text("user24_led.aedat\nuser01_led.aedat\n")
    message = refusal(dvs128_gesture, gesture, strict=strict)
    assert f"1 files are in both of train and test: {gesture}/user01_led.aedat" in message


@pytest.mark.parametrize("strict", [True, False])
def test_a_trial_in_both_lists_through_a_link_is_an_error(gesture, strict):
    (gesture / "user24_led.aedat").unlink()
    (gesture / "user24_led.aedat").symlink_to("user01_led.aedat")
    message = refusal(dvs128_gesture, gesture, strict=strict)
    assert f"1 files are in both of train and test: {gesture}/user24_led.aedat = {gesture}/user01_led.aedat" in message


def test_a_trial_twice_in_one_list_is_an_error(gesture):
    (gesture / "trials_to_test.txt").write_text("user24_led.aedat\n" * 2)
    assert "1 trials are more than once in trials_to_test.txt: user24_led" in refusal(dvs128_gesture, gesture)


def test_copies_of_a_trial_in_both_lists_are_an_error_or_a_warning(gesture, caplog):
    for suffix in (".aedat", "_labels.csv"):
        shutil.copy(gesture / f"user01_led{suffix}", gesture / f"user24_led{suffix}")
    text = (
        "12 recordings to test on are also to train on, with the same checksum: hand_clapping/user24_led_0 = hand_clapping/user01"
    )
    assert text in refusal(dvs128_gesture, gesture, strict=True)
    prepare(dvs128_gesture, gesture)
    assert text in caplog.text and "and 2 more; an accuracy on them says nothing" in caplog.text


@pytest.mark.parametrize("packed", [True, False])
def test_parts_of_n_mnist_that_are_links_to_each_other_are_an_error(raw, packed):
    files = n_mnist_files("Train", 1)
    if packed:
        write_zip(raw / "Train.zip", files)
        (raw / "Test.zip").symlink_to("Train.zip")
    else:
        write_files(raw, files)
        (raw / "Test").symlink_to("Train")
    assert f"files are in both of Train and Test: {raw}/Test" in refusal(n_mnist, raw)


def test_copies_of_a_recording_of_n_mnist_in_both_parts_are_an_error_or_a_warning(raw, monkeypatch, caplog):
    monkeypatch.setattr(n_mnist, "COUNTS", {"Train": (1,) * 10, "Test": (1,) * 10})
    files = {**n_mnist_files("Train", 1), **n_mnist_files("Test", 1)}
    files["Test/3/50004.bin"] = files["Train/3/00004.bin"]
    write_files(raw, files)
    text = "1 recordings to test on are also to train on, with the same checksum: Test/3/50004 = Train/3/00004"
    assert text in refusal(n_mnist, raw, strict=True)
    prepare(n_mnist, raw)
    assert text in caplog.text


def test_copies_in_a_dataset_without_a_split_of_its_own_are_a_warning(raw, caplog):
    files = cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, 10, num_events=50)
    files["bird/cifar10_bird_0.aedat"] = files["bird/cifar10_bird_9.aedat"]
    write_files(raw, files)
    prepare(cifar10_dvs, raw, split="in-order")
    assert "1 recordings to test on are also to train on, with the same checksum: bird/cifar10_bird_9 =" in caplog.text
    assert "= bird/cifar10_bird_0;" in caplog.text


@pytest.fixture
def records(raw):
    return write_files(raw / "cifar-10-batches-bin", image_files.cifar10_records())


def test_a_batch_of_cifar_that_is_a_link_to_another_is_an_error(raw, records):
    (records / "test_batch.bin").unlink()
    (records / "test_batch.bin").hardlink_to(records / "data_batch_1.bin")
    expected = f"1 files are in both of train and test: {records}/test_batch.bin = {records}/data_batch_1.bin"
    assert expected in refusal(cifar10, raw)


def test_a_copy_of_a_batch_of_cifar_is_an_error_or_a_warning(raw, records, caplog):
    shutil.copy(records / "data_batch_2.bin", records / "test_batch.bin")
    text = "1 files to test on are copies of files to train on: test_batch.bin = data_batch_2.bin"
    assert text in refusal(cifar10, raw, strict=True)
    prepare(cifar10, raw)
    assert text in caplog.text
    assert (
        "20 pictures to test on are also to train on, with the same checksum: test_batch.bin/00000 = data_batch_2" in caplog.text
    )


def test_pictures_of_cifar_in_both_parts_are_named(raw, records, caplog):
    prepare(cifar10, raw)
    assert "pictures to test on" not in caplog.text
    picture = (records / "data_batch_5.bin").read_bytes()[3073 * 7 : 3073 * 8]
    content = (records / "test_batch.bin").read_bytes()
    (records / "test_batch.bin").write_bytes(content[: 3073 * 2] + picture + content[3073 * 3 :])
    prepare(cifar10, raw)
    assert (
        "1 pictures to test on are also to train on, with the same checksum: test_batch.bin/00002 = data_batch_5.bin/00007"
        in (caplog.text)
    )


@pytest.fixture
def folders(raw):
    """Folders of classes, two images in each to train on and two to test on."""
    write_files(raw / "train", image_files.imagenet_train(2, 2))
    test = {f"val/{n}/{n}_test_{i}.JPEG": image_files.jpeg(n, 50 + i) for n in range(2) for i in range(2)}
    names = sorted(path.name for path in (raw / "train").iterdir())
    return write_files(
        raw,
        {path.replace("val/0/", f"val/{names[0]}/").replace("val/1/", f"val/{names[1]}/"): each for path, each in test.items()},
    )


@pytest.mark.parametrize("linked", ["val", "class", "image", "hard"])
def test_images_to_test_on_that_are_links_to_those_to_train_on_are_an_error(folders, linked):
    train, val = folders / "train", folders / "val"
    name = sorted(path.name for path in train.iterdir())[1]
    image = sorted((train / name).iterdir())[0]
    if linked == "val":
        shutil.rmtree(val)
        val.symlink_to("train")
    elif linked == "class":
        shutil.rmtree(val / name)
        (val / name).symlink_to(train / name)
    elif linked == "image":
        (val / name / "other.JPEG").symlink_to(image)
    else:
        (val / name / "other.JPEG").hardlink_to(image)
    message = refusal(imagenet, folders, side=16)
    count = {"val": 4, "class": 2}.get(linked, 1)
    assert f"{count} images are both to train and to test on: val/" in message and f"{image.name}" in message


@pytest.mark.parametrize("storage", ["files", "array"])
def test_copies_of_images_in_both_parts_are_named(folders, storage, caplog):
    prepare(imagenet, folders, side=16, storage=storage)
    assert "images to test on" not in caplog.text
    [image, *_] = sorted((folders / "train").rglob("*.JPEG"))
    [other, *_] = sorted((folders / "val").rglob("*.JPEG"))
    shutil.copy(image, other)
    prepare(imagenet, folders, side=16, storage=storage)
    text = f"1 images to test on are also to train on, with the same checksum: {other} = {image}; an accuracy on them"
    assert text in caplog.text


def test_a_link_to_nowhere_is_named(folders):
    for part in ("train", "val"):
        [folder, *_] = sorted((folders / part).iterdir())
        (folder / "gone.JPEG").symlink_to("nowhere")
    message = refusal(imagenet, folders, side=16)
    assert "2 of 10 images cannot be used" in message and "gone.JPEG: No such file or directory" in message


@pytest.mark.parametrize(
    ("ids", "lists"),
    [
        ("abcd", {"train": [0, 1], "test": [1, 2]}),
        ("abbd", {"train": [0, 1], "test": [2, 3]}),
        ("abcd", {"train": [1], "val": [1]}),
    ],
)
def test_no_index_is_written_of_a_sample_in_two_splits(tmp_path, ids, lists):
    np.save(tmp_path / "images.npy", np.zeros((4, 1, 2, 2), np.uint8))
    rows = [{"id": each, "label": 0} for each in ids]
    with pytest.raises(DataError, match=r"1 samples are both to train and to (test|val) on: b; each belongs to one split"):
        write_index(tmp_path, kind="images", class_names=["x"], rows=rows, splits=lists, recipe={})
    assert not (tmp_path / "index.json").exists()


def test_twins_are_named_up_to_a_number(caplog):
    pairs = [(f"test/{n}", f"train/{n}") for n in range(12)]
    with caplog.at_level(logging.WARNING):
        splits.tell_twins(pairs, "recordings", strict=False)
        splits.tell_twins([], "recordings", strict=True)
    assert caplog.text.count("test/") == 10 and "test/9 = train/9 and 2 more" in caplog.text


@pytest.mark.parametrize("strict", [True, False])
def test_recordings_of_the_same_class_and_name_are_an_error_that_names_both(raw, strict):
    files = cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, 2)
    write_files(raw, {**files, "airplane/airplane/cifar10_airplane_1.aedat": files["airplane/cifar10_airplane_0.aedat"]})
    message = refusal(cifar10_dvs, raw, strict=strict)
    path = f"{raw}/airplane/airplane/cifar10_airplane_1.aedat and {raw}/airplane/cifar10_airplane_1.aedat"
    assert f"1 recordings of the same class and name (move one of each away): {path}" in message


def test_archives_with_recordings_of_the_same_class_and_name_are_an_error(raw):
    files = cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, 2)
    for name in cifar10_dvs.CLASS_NAMES:
        write_zip(raw / f"{name}.zip", {path: each for path, each in files.items() if path.startswith(f"{name}/")})
    bird = {path: each for path, each in files.items() if path.startswith(("bird/", "cat/cifar10_cat_1"))}
    write_zip(raw / "bird.zip", bird)
    both = f"{raw}/bird.zip/cat/cifar10_cat_1.aedat and {raw}/cat.zip/cat/cifar10_cat_1.aedat"
    assert both in refusal(cifar10_dvs, raw)


@pytest.mark.parametrize("heading", ["class,startTime_usec,endTime_usec\n", "\ufeffclass, start, end\n", "\ufeff", ""])
def test_a_label_file_loses_no_row_without_a_heading(tmp_path, heading):
    (tmp_path / "a_labels.csv").write_text(f"{heading}1,10,20\n2,30,40\n", encoding="utf-8")
    problems = []
    found = read_labels(tmp_path / "a_labels.csv", Member("a.aedat"), problems)
    assert [each.window_us for each in found] == [(10, 20), (30, 40)] and problems == []


def test_a_first_row_with_a_mistake_is_no_heading(tmp_path):
    (tmp_path / "a_labels.csv").write_text("1,1o,20\n2,30,40\n")
    problems = []
    assert len(read_labels(tmp_path / "a_labels.csv", Member("a.aedat"), problems)) == 1
    assert problems == [f"{tmp_path}/a_labels.csv, line 1: expected class,startTime_usec,endTime_usec; found '1,1o,20'"]


def kaggle(raw, table):
    images, _ = image_files.imagenet_val()
    write_files(raw / "train", image_files.imagenet_train())
    write_files(raw, {"LOC_val_solution.csv": table, **{f"val/{name}": each for name, each in images.items()}})
    return raw


def test_a_table_of_kaggle_loses_no_row_without_a_heading(raw):
    _, classes = image_files.imagenet_val()
    heading, _, rows = image_files.imagenet_solution(classes).partition(b"\n")
    assert heading == b"ImageId,PredictionString"
    store = prepare(imagenet, kaggle(raw, rows), side=16)
    assert len(store.split("test")) == 12


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"ILSVRC2012_val_00000002,n01443537 1 2 3 4\n", "ILSVRC2012_val_00000002 is of class .* and of class n01443537"),
        (b"someone,n01443537 1 2 3 4\n", "not Kaggle's table with image and class on each line, as in 'someone,n01443537"),
    ],
)
def test_a_row_that_contradicts_another_or_names_no_image_is_an_error(raw, row, message):
    _, classes = image_files.imagenet_val()
    kaggle(raw, image_files.imagenet_solution([classes[0], "n01440764", *classes[2:]]) + row)
    with pytest.raises(DataError, match=f"LOC_val_solution.csv: {message}"):
        prepare(imagenet, raw, side=16)


def test_an_image_without_a_number_gets_no_class(raw, caplog):
    _, classes = image_files.imagenet_val()
    kaggle(raw, image_files.imagenet_solution(classes))
    write_files(raw, {"val/mine.JPEG": image_files.jpeg(0, 0)})
    assert len(prepare(imagenet, raw, side=16).split("test")) == 12
    assert "1 validation images whose class is not known: val/mine.JPEG" in caplog.text
