"""CIFAR-100: 50,000 + 10,000 colour pictures of 32 x 32, a hundred classes (the fine labels)."""

from __future__ import annotations

from pathlib import Path

from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare.cifar import Cifar, CifarParams, Form

NEEDS_RAW = True
SPLIT_SAMPLES = (50000, 10000)  # to train and to test on, for estimates
_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""

CIFAR = Cifar(
    name="CIFAR-100",
    class_names=tuple(_NAMES.split()),
    label_key="fine_labels",
    per_class={"train": 500, "test": 100},
    forms=(
        Form(
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            files={
                "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
                "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            },
        ),
        Form(
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            md5="03b5dce01913d631647c71ecec9e9cb8",
            files={"train": {"train.bin": None}, "test": {"test.bin": None}},
            labels=2,
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
