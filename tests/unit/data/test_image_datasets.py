"""CIFAR-10, CIFAR-100 and ImageNet from their files as published, and what is said of bad ones."""

import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder

from spikedistill.components import load
from spikedistill.data.datasets import cifar10, cifar100, imagenet
from spikedistill.data.formats import archives
from spikedistill.data.formats.decoding.pillow import middle_square
from spikedistill.data.formats.imagenet_synsets import SYNSETS
from spikedistill.data.prepare.cifar import Form
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests import image_files
from tests.files import write_files


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def prepare(dataset, raw, out=None, **params):
    before = listing(raw)
    out = out or raw.parent / "out"
    out.mkdir(exist_ok=True)
    component = load("data.datasets", dataset)
    try:
        component.prepare(component.Params(**params), raw=raw, out=out, work=out, num_workers=2)
    finally:
        assert listing(raw) == before, "the user's files were changed"
    return open_store(out)


def listing(folder):
    return {str(p): (p.stat().st_mtime_ns, hashlib.sha1(p.read_bytes()).hexdigest()) for p in folder.rglob("*") if p.is_file()}


def refusal(dataset, raw, **params):
    with pytest.raises(DataError) as caught:
        prepare(dataset, raw, **params)
    return str(caught.value)


CIFAR_FORMS = [
    ("cifar10", "cifar-10-batches-py", image_files.cifar10_pickles),
    ("cifar10", "cifar-10-batches-bin", image_files.cifar10_records),
    ("cifar100", "cifar-100-python", image_files.cifar100_pickles),
    ("cifar100", "cifar-100-binary", image_files.cifar100_records),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("dataset", "folder", "files"), CIFAR_FORMS)
def test_cifar_is_read_from_each_published_form(raw, dataset, folder, files, packed):
    if packed:
        name = folder.replace("-batches-py", "-python").replace("-batches-bin", "-binary")
        content = image_files.tar_of({f"{folder}/{n}": c for n, c in files().items()}, "w:gz")
        write_files(raw, {f"{name}.tar.gz": content})
    else:
        write_files(raw / folder, files())
    store = prepare(dataset, raw, strict=False)
    num_classes, counts = (10, [20] * 5) if dataset == "cifar10" else (100, [200])
    expected = [image_files.pictures(count, num_classes, seed) for seed, count in enumerate(counts)]
    train = np.concatenate([images for images, _ in expected]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(store.samples[store.split("train")], train)
    assert store.labels[store.split("train")].tolist() == [label for _, labels in expected for label in labels]
    test_images, test_labels = image_files.pictures(20 if dataset == "cifar10" else 100, num_classes, len(counts))
    np.testing.assert_array_equal(store.samples[store.split("test")], test_images.reshape(-1, 3, 32, 32))
    assert store.labels[store.split("test")].tolist() == test_labels
    assert store.num_classes == num_classes and store.channels == 3
    np.testing.assert_allclose(store.mean, train.mean((0, 2, 3)) / 255, atol=1e-6)
    np.testing.assert_allclose(store.std, train.std((0, 2, 3)) / 255, atol=1e-6)


@pytest.mark.parametrize(("reader", "dataset", "folder", "files"), [(CIFAR10, *CIFAR_FORMS[0]), (CIFAR100, *CIFAR_FORMS[2])])
def test_cifar_equals_what_torchvision_reads(raw, monkeypatch, reader, dataset, folder, files):
    meta = {"meta": image_files.as_python2({"fine_label_names": ["apple"]})} if dataset == "cifar100" else {}
    write_files(raw / folder, files() | meta)
    monkeypatch.setattr(reader, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    store = prepare(dataset, raw, strict=False)
    for split in ("train", "test"):
        theirs = reader(raw, train=split == "train")
        np.testing.assert_array_equal(store.samples[store.split(split)], theirs.data.transpose(0, 3, 1, 2))
        assert store.labels[store.split(split)].tolist() == theirs.targets


def test_the_published_sums_and_names_are_those_of_torchvision():
    for component, reader in ((cifar10, CIFAR10), (cifar100, CIFAR100)):
        form: Form = component.CIFAR.forms[0]
        assert (form.folder, form.archive, form.md5) == (reader.base_folder, reader.filename, reader.tgz_md5)
        assert list(form.files["train"].items()) == [tuple(entry) for entry in reader.train_list]
        assert list(form.files["test"].items()) == [tuple(entry) for entry in reader.test_list]
    assert len(cifar100.CIFAR.class_names) == 100 and list(cifar100.CIFAR.class_names) == sorted(cifar100.CIFAR.class_names)


def test_an_archive_that_is_not_as_published_is_named_with_both_sums_and_stays(raw):
    content = image_files.tar_of(image_files.cifar10_pickles(), "w:gz")
    write_files(raw, {"cifar-10-python.tar.gz": content})
    message = refusal("cifar10", raw)
    assert f"md5 {hashlib.md5(content).hexdigest()}, expected c58f30108f718f92721af3b95e74349a" in message
    assert "cifar-10-python.tar.gz" in message and "strict: false" in message


def test_every_bad_file_of_cifar_is_named_in_one_run(raw):
    folder = write_files(raw / "cifar-10-batches-py", image_files.cifar10_pickles())
    (folder / "data_batch_1").write_bytes((folder / "data_batch_1").read_bytes()[:30000])
    (folder / "data_batch_2").write_bytes(b"<html><body>503</body></html>")
    (folder / "data_batch_3").write_bytes(b"")
    (folder / "data_batch_4").write_bytes(pickle.dumps({"data": np.zeros((3, 10), np.uint8), "labels": [0, 1, 2]}))
    (folder / "data_batch_5").write_bytes(pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 10, 2]}))
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]}))
    message = refusal("cifar10", raw, strict=False)
    assert f"6 of 6 files of CIFAR-10 in {folder} cannot be used" in message
    for line in (
        "data_batch_1: not a pickle of CIFAR",
        "data_batch_2: not a pickle of CIFAR that can be read",
        "first bytes b'<html><b'",
        "data_batch_3: not a pickle of CIFAR",
        'data_batch_4: no array "data" of 3072 bytes per picture',
        "data_batch_5: labels from 0 to 10, expected 0 to 9",
        "test_batch: no list 'labels' of 3 labels",
    ):
        assert line in message
    strict = refusal("cifar10", raw)
    assert (
        f"{folder}/data_batch_3: 0 bytes, md5 d41d8cd98f00b204e9800998ecf8427e, expected 54ebc095f3ab1f0389bbae665268c751"
        in strict
    )


def test_records_that_are_cut_off_are_named(raw):
    files = image_files.cifar100_records()
    files["train.bin"] = files["train.bin"][:-1]
    write_files(raw / "cifar-100-binary", files)
    message = refusal("cifar100", raw)
    assert "train.bin: 614799 bytes are not a whole number of records of 3074 bytes" in message


def test_a_pickle_cannot_run_code(raw):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {raw.parent}/owned",)

    files = image_files.cifar10_pickles() | {"test_batch": pickle.dumps({"data": Evil(), "labels": []})}
    write_files(raw / "cifar-10-batches-py", files)
    assert "it wants to call posix.system" in refusal("cifar10", raw, strict=False)
    assert not (raw.parent / "owned").exists()


def test_missing_files_and_short_classes_of_cifar_are_named_and_used_only_when_asked(raw):
    folder = write_files(raw / "cifar-10-batches-bin", image_files.cifar10_records())
    (folder / "data_batch_4.bin").unlink()
    message = refusal("cifar10", raw)
    assert "CIFAR-10 is not complete" in message and "1 files missing: data_batch_4.bin" in message
    assert "10 classes of train without 5000 pictures: airplane 8" in message
    assert len(prepare("cifar10", raw, strict=False).split("train")) == 80


def test_a_part_that_is_missing_altogether_is_refused_even_when_not_strict(raw):
    folder = write_files(raw / "cifar-10-batches-bin", image_files.cifar10_records())
    (folder / "test_batch.bin").unlink()
    assert "no test pictures of CIFAR-10" in refusal("cifar10", raw, strict=False)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagenet"])
def test_a_folder_with_something_else_is_refused_with_what_belongs_there(raw, dataset):
    (raw / "notes.txt").write_text("x")
    message = refusal(dataset, raw)
    assert str(raw) in message
    expected = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python.tar.gz", "imagenet": "ILSVRC2012_img_train.tar"}
    assert expected[dataset] in message


def test_an_archive_that_cannot_be_unpacked_is_named(raw):
    content = image_files.tar_of(image_files.cifar10_pickles(), "w:gz")
    write_files(raw, {"cifar-10-python.tar.gz": content[: len(content) // 2]})
    assert "cifar-10-python.tar.gz: not a readable tar archive" in refusal("cifar10", raw, strict=False)


def test_an_empty_folder_is_filled_and_a_download_that_fails_is_explained(raw, monkeypatch):
    content = image_files.tar_of(image_files.cifar10_pickles(), "w:gz")
    asked = []

    def download(sources, folder):
        asked.extend(sources)
        write_files(folder, {sources[0][0]: content})

    monkeypatch.setattr(archives, "download", download)
    out = raw.parent / "out"
    out.mkdir()
    cifar10.prepare(cifar10.Params(strict=False), raw=raw, out=out, work=out, num_workers=1)
    assert asked == [
        (
            "cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
        )
    ]
    assert len(open_store(out).labels) == 120


def imagenet_folders(raw):
    """The layout of torchvision's ImageFolder, with what file managers leave behind."""
    write_files(raw / "train", image_files.imagenet_train())
    images, classes = image_files.imagenet_val()
    write_files(raw / "val", {f"{c}/{name}": content for (name, content), c in zip(images.items(), classes, strict=True)})
    clutter = {f"train/{SYNSETS[0]}/.DS_Store": b"x", "train/README.txt": b"x", f"val/{SYNSETS[1]}/Thumbs.db": b"x"}
    write_files(raw, clutter)


def imagenet_as_published(raw):
    write_files(raw, image_files.imagenet_archives())


def imagenet_of_kaggle(raw):
    images, classes = image_files.imagenet_val()
    write_files(raw / "ILSVRC/Data/CLS-LOC/train", image_files.imagenet_train())
    write_files(raw / "ILSVRC/Data/CLS-LOC/val", images)
    write_files(raw, {"LOC_val_solution.csv": image_files.imagenet_solution(classes)})


def imagenet_unpacked_with_devkit(raw):
    images, classes = image_files.imagenet_val()
    write_files(raw / "extract/train", image_files.imagenet_train())
    write_files(raw / "extract/val", images)
    write_files(raw, {"ILSVRC2012_devkit_t12.tar.gz": image_files.imagenet_devkit(classes)})


LAYOUTS = [imagenet_folders, imagenet_as_published, imagenet_of_kaggle, imagenet_unpacked_with_devkit]


@pytest.mark.parametrize("storage", ["files", "array"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_imagenet_is_read_from_each_layout(raw, layout, storage):
    layout(raw)
    store = prepare("imagenet", raw, strict=False, storage=storage, side=32)
    assert store.class_names == SYNSETS[:3]
    assert store.samples.shape == (36, 3, 32, 32) and store.samples.dtype == np.uint8
    assert store.mean == (0.485, 0.456, 0.406)
    train, (val, classes) = image_files.imagenet_train(), image_files.imagenet_val()
    expected = [(SYNSETS.index(name.partition("/")[0]), content) for name, content in sorted(train.items())]
    found = [SYNSETS.index(name) for name in classes]
    published = list(zip(found, val.values(), strict=True))
    expected += sorted(published, key=lambda entry: entry[0]) if layout is imagenet_folders else published
    assert store.labels.tolist() == [label for label, _ in expected]
    assert store.split("train").tolist() == list(range(24)) and store.split("test").tolist() == list(range(24, 36))
    for row, (_, content) in enumerate(expected):
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        ours = store.samples[row] if storage == "array" else store.samples.square(row)
        np.testing.assert_array_equal(ours, middle_square(picture, 32))


def test_folders_of_classes_are_those_of_torchvision(raw):
    imagenet_folders(raw)
    store = prepare("imagenet", raw, strict=False)
    theirs = ImageFolder(raw / "train")
    assert list(store.class_names) == theirs.classes
    assert store.labels[store.split("train")].tolist() == theirs.targets
    for row in (0, 1, 2, 23):
        np.testing.assert_array_equal(np.asarray(store.samples.read(row)), np.asarray(theirs[row][0]))


def test_the_inventory_of_imagenet_names_classes_and_numbers(raw):
    imagenet_folders(raw)
    write_files(raw, {"train/zebra/1.JPEG": image_files.jpeg(0, 0), "train/2.JPEG": image_files.jpeg(0, 0)})
    message = refusal("imagenet", raw)
    for line in (
        "ImageNet is not complete",
        f"997 classes of train without images: {SYNSETS[3]}, {SYNSETS[4]}",
        "1 classes of train that do not belong: zebra",
        f"1 images beside the class folders: {raw}/train/2.JPEG",
        f"3 classes of train with too few or too many images: {SYNSETS[0]} 8",
        f"3 classes of test with too few or too many images: {SYNSETS[0]} 4",
        "25 images to train on, expected 1281167",
    ):
        assert line in message


def test_a_subset_of_imagenet_is_used_when_asked_and_classes_are_those_to_train_on(raw):
    imagenet_folders(raw)
    write_files(raw, {f"val/{SYNSETS[7]}/1.JPEG": image_files.jpeg(0, 0)})
    store = prepare("imagenet", raw, strict=False)
    assert store.class_names == SYNSETS[:3] and len(store.split("test")) == 12


@pytest.mark.parametrize("storage", ["files", "array"])
def test_every_image_that_cannot_be_decoded_is_named_before_training(raw, storage):
    imagenet_folders(raw)
    first, second, third = sorted((raw / "train" / SYNSETS[0]).glob("*.JPEG"))[:3]
    first.write_bytes(first.read_bytes()[:-200])
    second.write_bytes(b"<html>")
    third.write_bytes(b"")
    message = refusal("imagenet", raw, strict=False, storage=storage, side=16)
    assert "3 of 36 images cannot be used" in message
    assert all(f"{path}: not an image that can be decoded" in message for path in (first, second, third))


def test_a_training_archive_that_ends_early_is_named(raw):
    files = image_files.imagenet_archives()
    files["ILSVRC2012_img_train.tar"] = files["ILSVRC2012_img_train.tar"][:-16000]
    write_files(raw, files)
    assert "ILSVRC2012_img_train.tar: not a readable tar archive" in refusal("imagenet", raw, strict=False)


def test_archives_of_imagenet_that_are_not_as_published_are_refused(raw):
    imagenet_as_published(raw)
    message = refusal("imagenet", raw)
    assert "ILSVRC2012_img_train.tar: md5" in message and "expected 1d675b47d978889d74fa0da5fadfb00e" in message


def test_validation_images_whose_classes_nobody_says_are_refused(raw):
    imagenet_of_kaggle(raw)
    (raw / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n")
    assert "11 validation images whose class is not known" in refusal("imagenet", raw)
    (raw / "LOC_val_solution.csv").write_text("<html>\n<body>\n")
    assert "LOC_val_solution.csv: not Kaggle's table" in refusal("imagenet", raw, strict=False)
    (raw / "LOC_val_solution.csv").unlink()
    assert "either ILSVRC2012_devkit_t12.tar.gz" in refusal("imagenet", raw, strict=False)
    (raw / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"<html>")
    assert "ILSVRC2012_devkit_t12.tar.gz: not a readable tar archive" in refusal("imagenet", raw, strict=False)


def test_an_array_that_would_not_fit_the_disk_is_refused_at_once(raw):
    imagenet_folders(raw)
    assert "GB needed for the images" in refusal("imagenet", raw, strict=False, storage="array", side=2_000_000)


def test_what_the_datasets_say_of_themselves():
    for component, expected in ((cifar10, (3, 32, 32, 10)), (cifar100, (3, 32, 32, 100)), (imagenet, (3, 256, 256, 1000))):
        meta = component.describe(component.Params())
        assert (meta.channels, meta.height, meta.width, meta.num_classes) == expected
        assert meta.kind == "images" and component.NEEDS_RAW
    assert len(set(SYNSETS)) == 1000 and list(SYNSETS) == sorted(SYNSETS)
    digest = hashlib.sha256("\n".join(SYNSETS).encode()).hexdigest()
    assert digest == "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


def test_a_link_in_an_archive_that_leads_nowhere_is_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("folder/wanted")
        link.type, link.linkname = tarfile.SYMTYPE, "not there"
        archive.addfile(link)
        there = tarfile.TarInfo("folder/there")
        there.size = 3
        archive.addfile(there, io.BytesIO(b"abc"))
    assert archives.read_tar(tmp_path / "a.tar", ["wanted", "there"], limit=1000) == {"there": b"abc"}
