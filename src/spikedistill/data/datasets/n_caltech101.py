"""N-Caltech101 (Orchard et al. 2015): 8709 Caltech101 images, recorded with a moving ATIS, up to 240 x 180, .bin."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_atis
from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, splits
from spikedistill.data.prepare.frames import Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError

NEEDS_RAW = True
SPLIT_SAMPLES = (7839, 870)  # to train and to test on, for estimates
HEIGHT, WIDTH = 180, 240
NUM_RECORDINGS = 8709
ARCHIVE, MD5 = "Caltech101.zip", "66201824eabb0239c7ab992480b50ba3"
ADDRESS = "https://www.garrickorchard.com/datasets/n-caltech101"
_NAMES = """
    BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai
    brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body
    cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar elephant
    emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog
    helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah
    metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster saxophone
    schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry sunflower tick
    trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang
"""
CLASS_NAMES = tuple(_NAMES.split())


class Params(inventory.DownloadedParams):
    """How the events become frames, and the split. The dataset has no official one."""

    split: Literal["in-order", "stratified", "random42"] = Field(
        "in-order",
        description="in-order: the first 90 % of each class train, as in SpikingJelly's split_to_train_test_set; stratified: "
        "90/10 of each class at random; random42: 90/10 of all at random.",
    )


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return inventory.describe(params, CLASS_NAMES, (HEIGHT, WIDTH))


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Decode and integrate the recordings in `raw`: class folders or the archive, also below `extract` or `download`.

    Raises:
        DataError: naming everything that is missing, surplus or damaged.
    """
    assert raw is not None
    recordings, incomplete = _recordings(raw, params)
    decode, sensor = whole_files(decode_atis, height=HEIGHT, width=WIDTH), (HEIGHT, WIDTH)
    rows = write_frames(recordings, decode, params, out, sensor=sensor, num_workers=num_workers, incomplete=incomplete, work=work)
    files = [(recording.label, recording.id.rpartition("/")[2]) for recording in rows.recordings]
    labels, numbers = [label for label, _ in files], [inventory.number_of(name) for _, name in files]
    lists = splits.all_splits(labels, numbers, inventory.spikingjelly_order(CLASS_NAMES, files))
    lists.pop("first100", None)
    split = splits.chosen(lists, params.split)
    splits.check_twins(rows, split, strict=False)  # not a published split
    write_index(
        out,
        kind="frames",
        class_names=CLASS_NAMES,
        rows=rows,
        splits=split,
        split_lists=lists,
        recipe={"dataset": "n-caltech101", **params.model_dump(mode="json")},
    )


def _recordings(root: Path, params: Params) -> tuple[list[Recording], str]:
    """Return the recordings, and an error text about the dataset as a whole, if any."""
    problems = inventory.Problems()
    found = inventory.group_by_class(_members(root, params, problems), CLASS_NAMES, ".bin", problems)
    last = {name: max(map(inventory.number_of, files), default=0) for name, files in found.items()}
    expected = {name: [f"image_{n:04d}.bin" for n in range(1, last[name] + 1)] for name in CLASS_NAMES}
    inventory.compare_files(found, expected, problems)
    problems += inventory.summarize("classes without a recording", [name for name, files in found.items() if not files])
    if (total := sum(map(len, found.values()))) != NUM_RECORDINGS:
        problems.append(f"{total} recordings, expected {NUM_RECORDINGS}")
    inventory.compare_sizes(found, inventory.find_archives(root, [ARCHIVE]).values(), problems)
    recordings = inventory.make_recordings(found)
    return recordings, inventory.error_or_warning("N-Caltech101", root, problems, strict=params.strict)


def _members(root: Path, params: Params, problems: list[str]) -> list[Member]:
    folder = inventory.find_folder(root, ["Caltech101", "N-Caltech101"], lambda it: (it / CLASS_NAMES[-1]).is_dir())
    if folder is not None:
        return inventory.files_in_classes(folder, CLASS_NAMES)
    found = inventory.find_archives(root, [ARCHIVE])
    if not found:
        raise DataError(
            f"{root}: no N-Caltech101 here: neither class folders ({CLASS_NAMES[0]}, …) nor {ARCHIVE}, also not below extract "
            f"or download. It cannot be downloaded by a program: get it from {ADDRESS}"
        )
    return inventory.files_in_archives({found[ARCHIVE]: MD5}, problems, strict=params.strict)
