"""CIFAR-10, CIFAR-100 and ImageNet written small in the formats in which they are published."""

from __future__ import annotations

import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from spikedistill.data.formats.imagenet_synsets import SYNSETS


def pictures(count: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Pictures [N, 3072] whose colour tells their class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    colours = np.random.default_rng(99).integers(20, 236, (num_classes, 3, 1, 1))
    noise = rng.integers(-20, 21, (count, 3, 32, 32))
    return (colours[labels] + noise).astype(np.uint8).reshape(count, 3072), labels.tolist()


def as_python2(batch: dict[str, object]) -> bytes:
    """A pickle in the very codes that Python 2 and its numpy wrote, which no Python 3 writes: text is byte strings."""
    return b"\x80\x02}(" + b"".join(_python2(key) + _python2(value) for key, value in batch.items()) + b"u."


def _python2(value: object) -> bytes:
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode()
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    assert isinstance(value, np.ndarray) and value.dtype == np.uint8
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"T" + value.size.to_bytes(4, "little") + value.tobytes()
    shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
    return made + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"


def cifar10_pickles(per_batch: int = 20) -> dict[str, bytes]:
    """The files of cifar-10-batches-py."""
    files = {}
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        images, labels = pictures(per_batch, 10, seed)
        names = [f"picture_{number}.png" for number in range(per_batch)]
        files[name] = as_python2({"batch_label": name, "labels": labels, "data": images, "filenames": names})
    files["batches.meta"] = as_python2({"label_names": ["airplane"]})
    return files


def cifar100_pickles(counts: tuple[int, int] = (200, 100)) -> dict[str, bytes]:
    """The files of cifar-100-python."""
    files = {}
    for seed, (name, count) in enumerate(zip(("train", "test"), counts, strict=True)):
        images, labels = pictures(count, 100, seed)
        coarse = [label // 5 for label in labels]
        files[name] = as_python2({"fine_labels": labels, "coarse_labels": coarse, "data": images})
    return files


def cifar10_records(per_batch: int = 20) -> dict[str, bytes]:
    """The files of cifar-10-batches-bin."""
    files = {}
    for seed, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
        images, labels = pictures(per_batch, 10, seed)
        files[name] = np.concatenate([np.array(labels, np.uint8)[:, None], images], 1).tobytes()
    return files


def cifar100_records(counts: tuple[int, int] = (200, 100)) -> dict[str, bytes]:
    """The files of cifar-100-binary."""
    files = {}
    for seed, (name, count) in enumerate(zip(("train.bin", "test.bin"), counts, strict=True)):
        images, labels = pictures(count, 100, seed)
        both = np.array([[label // 5, label] for label in labels], np.uint8)
        files[name] = np.concatenate([both, images], 1).tobytes()
    return files


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def jpeg(label: int, number: int, mode: str = "RGB") -> bytes:
    """A JPEG of some size whose colour tells its class."""
    rng = np.random.default_rng((label, number))
    size = (40 + number % 3 * 7, 52 - number % 2 * 9)
    colour = np.random.default_rng(label).integers(30, 226, 3)
    pixels = (colour + rng.integers(-20, 21, (*size, 3))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def imagenet_train(num_classes: int = 3, per_class: int = 8) -> dict[str, bytes]:
    """Images to train on by class and name, grey ones and one in four colours among them."""
    modes = {1: "L", 2: "CMYK"}
    return {
        f"{SYNSETS[label]}/{SYNSETS[label]}_{number}.JPEG": jpeg(label, number, modes.get(number, "RGB"))
        for label in range(num_classes)
        for number in range(per_class)
    }


def imagenet_val(num_classes: int = 3, count: int = 12) -> tuple[dict[str, bytes], list[str]]:
    """Validation images as published, and the class of each."""
    files = {f"ILSVRC2012_val_{n:08d}.JPEG": jpeg(n % num_classes, 100 + n) for n in range(1, count + 1)}
    return files, [SYNSETS[n % num_classes] for n in range(1, count + 1)]


def imagenet_devkit(classes: list[str]) -> bytes:
    """The development kit: what says the classes of the validation images. Its numbers are in an order of its own."""
    names = sorted(set(classes), reverse=True)
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    leaves = [(number, name, f"thing {number}", 0) for number, name in enumerate(names, 1)]
    synsets = np.array([*leaves, (len(names) + 1, "n00001740", "entity", 2)], dtype=fields)
    table = io.BytesIO()
    savemat(table, {"synsets": synsets.reshape(-1, 1)})
    truth = "".join(f"{names.index(name) + 1}\n" for name in classes)
    folder = "ILSVRC2012_devkit_t12/data"
    files = {f"{folder}/meta.mat": table.getvalue(), f"{folder}/ILSVRC2012_validation_ground_truth.txt": truth.encode()}
    return tar_of(files, "w:gz")


def imagenet_archives(num_classes: int = 3, per_class: int = 8) -> dict[str, bytes]:
    """The three archives as published."""
    by_class: dict[str, dict[str, bytes]] = {}
    for name, content in imagenet_train(num_classes, per_class).items():
        class_name, _, file = name.partition("/")
        by_class.setdefault(class_name, {})[file] = content
    images, classes = imagenet_val(num_classes)
    return {
        "ILSVRC2012_img_train.tar": tar_of({f"{name}.tar": tar_of(files) for name, files in by_class.items()}),
        "ILSVRC2012_img_val.tar": tar_of(images),
        "ILSVRC2012_devkit_t12.tar.gz": imagenet_devkit(classes),
    }


def imagenet_solution(classes: list[str]) -> bytes:
    """Kaggle's table of the classes of the validation images."""
    lines = [f"ILSVRC2012_val_{n:08d},{name} 1 2 30 40 {name} 5 6 7 8 " for n, name in enumerate(classes, 1)]
    return "\n".join(["ImageId,PredictionString", *lines, ""]).encode()
