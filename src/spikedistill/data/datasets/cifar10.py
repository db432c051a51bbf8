"""CIFAR-10: 50,000 + 10,000 colour pictures of 32 x 32, ten classes."""

from __future__ import annotations

from pathlib import Path

from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare.cifar import Cifar, CifarParams, Form

NEEDS_RAW = True
SPLIT_SAMPLES = (50000, 10000)  # to train and to test on, for estimates

CIFAR = Cifar(
    name="CIFAR-10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    label_key="labels",
    per_class={"train": 5000, "test": 1000},
    forms=(
        Form(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            md5="c58f30108f718f92721af3b95e74349a",
            files={
                "train": {
                    "data_batch_1": "c99cafc152244af753f735de768cd75f",
                    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                    "data_batch_4": "634d18415352ddfa80567beed471001a",
                    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                },
                "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
            },
        ),
        Form(
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            files={"train": {f"data_batch_{n}.bin": None for n in range(1, 6)}, "test": {"test_batch.bin": None}},
            labels=1,
        ),
    ),
)


class Params(CifarParams):
    """The published training and test sets are the splits."""


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return CIFAR.describe()


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Write the pictures in `raw` as one array; see `Cifar.prepare`."""
    assert raw is not None
    CIFAR.prepare(params, raw, out)
