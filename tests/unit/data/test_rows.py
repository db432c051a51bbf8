"""The rows of a large dataset are columns: the same rows as in JSON, opened without being read."""

import json

import numpy as np
import pytest

from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.prepare.index import write_index
from spikedistill.data.rows import LARGE, Rows, write_columns
from spikedistill.data.store import open_store
from spikedistill.errors import DataError

ROWS = [
    {"id": "a/1.png", "label": 2, "size": 2**40, "note": ""},
    {"id": "b/ö 2.png", "label": 0, "size": -1, "note": "x", "short": True},
    {"id": "c/\udcff.png", "label": 1, "size": 0, "note": "\n", "part": [1, {"a": None}]},
]


def test_rows_come_back_as_they_were(tmp_path):
    entry = json.loads(json.dumps(write_columns(tmp_path, ROWS)))
    rows = Rows(tmp_path, entry)
    assert list(rows) == ROWS
    assert rows[-1] == ROWS[-1]
    assert rows[1:] == ROWS[1:]
    assert rows.labels.tolist() == [2, 0, 1]
    assert entry["columns"] == {
        "id": "text",
        "label": "integer",
        "size": "integer",
        "note": "text",
        "short": "json",
        "part": "json",
    }
    with pytest.raises(IndexError):
        rows[3]


def test_text_of_no_length_is_text(tmp_path):
    rows = [{"id": "", "label": 0}, {"id": "", "label": 1}]
    assert list(Rows(tmp_path, write_columns(tmp_path, rows))) == rows


def large(folder, number=LARGE):
    """Write a dataset of images in files with a split of each kind."""
    folder.mkdir()
    rows = [{"id": f"{row % 10}/{row}.jpg", "label": row % 10} for row in range(number)]
    ImageFiles.save(folder, folder, 8)
    names = [str(label) for label in range(10)]
    splits = {"train": range(number - 10), "test": range(number - 10, number)}
    other = {"train": range(10, number), "test": range(10)}
    options = {"kind": "images", "class_names": names, "recipe": {}, "statistics": ([0.5] * 3, [0.5] * 3)}
    write_index(folder, rows=rows, splits=splits, split_lists={"other": other, "few": {"train": [0, 1], "test": [2]}}, **options)
    return rows


def test_a_large_dataset_opens_with_its_rows_and_splits(tmp_path):
    rows = large(tmp_path / "data")
    store = open_store(tmp_path / "data")
    assert isinstance(store.labels, np.memmap)
    assert store.labels.tolist() == [row["label"] for row in rows]
    assert store.split("test").tolist() == list(range(LARGE - 10, LARGE))
    assert store.samples.name(LARGE - 1) == str(tmp_path / "data" / rows[-1]["id"])
    assert open_store(tmp_path / "data", "other").split("test").tolist() == list(range(10))
    assert open_store(tmp_path / "data", "few").split("train").tolist() == [0, 1]
    assert "label" not in (tmp_path / "data/index.json").read_text().partition('"columns"')[0]


def test_a_large_dataset_is_the_same_when_made_again(tmp_path):
    for name in ("one", "other"):
        large(tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 8
    differing = [str(f) for f in files if (tmp_path / "one" / f).read_bytes() != (tmp_path / "other" / f).read_bytes()]
    assert differing == ["files.json"]  # which names the folder


def test_a_small_dataset_stays_readable(tmp_path):
    rows = large(tmp_path / "data", LARGE - 1)
    assert json.loads((tmp_path / "data/index.json").read_text())["rows"] == rows
    assert not (tmp_path / "data/rows").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("rows/label.npy", b"", "its header cannot be read"),
        ("rows/label.npy", None, "No such file"),
        ("rows/id.text", None, "No such file"),
        ("rows/id.ends.npy", "rows/label.npy of 1 row", r"int64 \[1\], expected int64 \[20000\]"),
        ("index.json", '"id": "text"', "not a column: 'id'"),
        ("index.json", '"label": "integer"', "expected their number and their columns"),
        ("splits.npz", b"PK", "splits.npz: cannot be read"),
        ("splits.npz", b"", "splits.npz: cannot be read"),
    ],
)
def test_damaged_columns_are_named(tmp_path, file, content, said):
    folder = tmp_path / "data"
    large(folder)
    path = folder / file
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npy":
        np.save(path, np.zeros(1, dtype=np.int64))
    else:
        path.write_text(path.read_text().replace(content, content.split(":")[0] + ': "other"'))
    with pytest.raises(DataError, match=said) as error:
        open_store(folder)
    assert str(folder) in str(error.value)


def test_labels_that_are_no_classes_are_named(tmp_path):
    large(tmp_path / "data")
    labels = np.load(tmp_path / "data/rows/label.npy")
    labels[7] = 10
    np.save(tmp_path / "data/rows/label.npy", labels)
    with pytest.raises(DataError, match="labels: numbers from 0 to 10, expected 0 to 9"):
        open_store(tmp_path / "data")


def test_a_damaged_text_is_named_when_it_is_read(tmp_path):
    large(tmp_path / "data")
    path = tmp_path / "data/rows/id.text"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    with pytest.raises(DataError, match="row 0 is damaged"):
        open_store(tmp_path / "data").samples.name(0)
