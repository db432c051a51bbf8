"""Class folders, tables, and splits of one's own files: found and told, or asked for."""

import errno
import logging
import os

import pytest

from spikedistill.data.prepare import own_files
from spikedistill.data.prepare.own_files import OwnFilesParams
from spikedistill.data.prepare.own_splits import Draw, drawn
from spikedistill.errors import DataError
from tests.files import write_files


def find(raw, **params):
    return own_files.find(raw, OwnFilesParams(**params), (".dat",))


def refusal(raw, **params):
    with pytest.raises(DataError) as caught:
        listing = find(raw, **params)
        stated = OwnFilesParams(**params)
        listing.splits(stated, listing.class_names(stated))
    return str(caught.value)


def files(*names):
    return {name: name.encode() for name in names}


def in_parts(train="train", test="test"):
    return files(*(f"{part}/{c}/{n}.dat" for part in (train, test) for c in ("cat", "dog") for n in range(2)))


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "Test"), ("training", "validation"), ("train", "val")])
def test_folders_of_usual_names_are_the_splits(tmp_path, train, test):
    listing = find(write_files(tmp_path, in_parts(train, test)))
    assert (listing.parts.train, listing.parts.test) == (train, test)
    lists = listing.splits(OwnFilesParams(), listing.class_names(OwnFilesParams()))
    assert {listing.files[n].path.split("/")[0] for n in lists["test"]} == {test}
    assert len(lists["train"]) == len(lists["test"]) == 4


def test_of_several_folders_to_test_on_one_has_to_be_stated_and_the_other_is_told(tmp_path, caplog):
    write_files(tmp_path, in_parts() | in_parts(test="val"))
    assert "train, test, val are there; state which to use" in refusal(tmp_path)
    listing = find(tmp_path, parts={"train": "train", "test": "val"})
    assert {file.path.split("/")[0] for file in listing.files} == {"train", "val"}
    assert "1 folders of neither part are not used: test" in caplog.text
    assert "names 'train' and 'tset', expected two of: test, train, val" in refusal(
        tmp_path, parts={"train": "train", "test": "tset"}
    )


def test_without_a_split_one_has_to_be_drawn(tmp_path):
    write_files(tmp_path, files(*(f"{c}/{n}.dat" for c in ("cat", "dog") for n in range(10))))
    assert "no split" in refusal(tmp_path) and "split: {test: 0.1, seed: 0}" in refusal(tmp_path)
    params = OwnFilesParams(split={"test": 0.2, "seed": 3})
    listing = find(tmp_path, split=params.split)
    lists = listing.splits(params, listing.class_names(params))
    assert [sum(listing.files[n].class_name == c for n in lists["test"]) for c in ("cat", "dog")] == [2, 2]
    assert sorted(lists["train"] + lists["test"]) == list(range(20))


def test_a_split_that_is_there_and_one_to_draw_contradict_each_other(tmp_path):
    assert "would draw another: remove one" in refusal(write_files(tmp_path, in_parts()), split={"test": 0.1})


def test_a_drawn_split_depends_on_the_seed_alone():
    labels = [0] * 30 + [1] * 3
    lists = [drawn(labels, Draw(test=0.1, seed=seed), ["a", "b"]) for seed in (0, 0, 1)]
    assert lists[0] == lists[1] != lists[2]
    assert [sum(labels[n] == label for n in lists[0]["test"]) for label in (0, 1)] == [3, 1]
    assert lists[0]["test"] == [9, 16, 22, 30]  # frozen: ids of artifacts rely on it
    with pytest.raises(DataError, match="class 'b' has 1 sample"):
        drawn([0, 0, 1], Draw(test=0.5), ["a", "b"])


def table(*lines):
    return "\n".join(lines).encode()


def test_a_table_says_classes_and_splits(tmp_path):
    lines = ["path,label,split", *(f"all/{n}.dat,{'cat' if n % 2 else 'dog'},{'train' if n < 6 else 'test'}" for n in range(10))]
    write_files(tmp_path, files(*(f"all/{n}.dat" for n in range(11))) | {"labels.csv": table(*lines)})
    listing = find(tmp_path)
    assert len(listing.files) == 10
    assert listing.class_names(OwnFilesParams()) == ("cat", "dog")
    lists = listing.splits(OwnFilesParams(), ("cat", "dog"))
    assert [listing.files[n].path for n in lists["test"]] == ["all/6.dat", "all/7.dat", "all/8.dat", "all/9.dat"]
    before = listing.digest
    write_files(tmp_path, {"labels.csv": table(*lines).replace(b"1.dat,cat", b"1.dat,dog")})
    assert find(tmp_path).digest != before


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_without_splits_and_with_other_names_and_separators_is_read(tmp_path, separator):
    lines = [separator.join(fields) for fields in [("Label", "filename"), *(("ab"[n % 2], f"{n}.dat") for n in range(8))]]
    write_files(tmp_path, files(*(f"{n}.dat" for n in range(8))) | {"mine.csv": b"\xef\xbb\xbf" + "\r\n".join(lines).encode()})
    listing = find(tmp_path, split={"test": 0.25})
    assert [file.class_name for file in listing.files] == list("abababab")


def test_a_table_may_have_the_line_ends_of_old_spreadsheets(tmp_path):
    write_files(tmp_path, files("0.dat", "1.dat", "2.dat", "3.dat") | {"t.csv": b"path,label\r0.dat,cat\r1.dat,dog\r"})
    assert [file.class_name for file in find(tmp_path, split={"test": 0.5}).files] == ["cat", "dog"]


@pytest.mark.parametrize("content", [b"a,b\r1,2\r", b'"' + b"x" * 200_000, b"\r", b"\0\r\0"])
def test_a_csv_file_that_is_no_table_is_passed_over_and_refused_where_it_is_stated(tmp_path, content):
    write_files(tmp_path, in_parts() | {"t.csv": content})
    assert len(find(tmp_path).files) == 8
    assert "t.csv: line 1 must name the columns path, label and perhaps split; found " in refusal(tmp_path, table="t.csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../outside.dat,cat", "'../outside.dat' leads out of root"),
        ("/etc/passwd,cat", "'/etc/passwd' leads out of root"),
        ("none.dat,cat", "no file none.dat"),
        ("0.dat,dog", "0.dat is in line 2, too"),
        ("./0.dat,dog", "0.dat is in line 2, too"),
        ("1.dat", "expected path, label; found '1.dat'"),
        ("1.dat,", "expected path, label"),
        ('"1.dat,cat', "unexpected end of data"),
        ("x" * 5000 + ",cat", "no file xxx"),
    ],
)
def test_lines_of_a_table_that_cannot_be_used_are_named(tmp_path, line, message):
    raw = write_files(tmp_path / "raw", files("0.dat", "1.dat") | {"t.csv": table("path,label", "0.dat,cat", line)})
    write_files(tmp_path, files("outside.dat"))
    found = refusal(raw, split={"test": 0.5})
    assert f"{raw}/t.csv: 1 lines cannot be used:\n  line " in found and message in found


def test_a_file_of_a_table_that_may_not_be_looked_at_is_told_with_what_the_system_says(tmp_path, monkeypatch):
    raw = write_files(tmp_path, files("0.dat", "1.dat") | {"t.csv": table("path,label", "0.dat,cat", "1.dat,dog")})
    is_file = type(raw).is_file

    def refused(path):
        if path.name == "1.dat":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(type(raw), "is_file", refused)
    assert refusal(raw, split={"test": 0.5}).startswith(f"{raw}/1.dat: Permission denied; give yourself permission")


def test_of_several_tables_one_has_to_be_stated(tmp_path):
    write_files(tmp_path, files("0.dat", "1.dat", "2.dat", "3.dat"))
    for name in ("a", "b"):
        rows = table("path,label,split", "0.dat,x,train", "1.dat,y,train", "2.dat,x,test", "3.dat,y,test")
        write_files(tmp_path, {f"{name}.csv": rows})
    assert "a.csv, b.csv are tables of paths and labels; state one" in refusal(tmp_path)
    assert len(find(tmp_path, table="b.csv").files) == 4
    assert "no such file below root" in refusal(tmp_path, table="../b.csv")


def test_files_of_other_formats_are_named_unless_they_are_to_be_ignored(tmp_path, caplog):
    extra = files("README.md", "train/cat/notes.txt", "train/cat/.DS_Store", "train/__MACOSX/cat/0.dat", "train/list.txt")
    write_files(tmp_path, in_parts() | extra)
    assert "1 files of another format" in refusal(tmp_path) and "train/cat/notes.txt" in refusal(tmp_path)
    with caplog.at_level(logging.INFO):
        assert len(find(tmp_path, ignore=["*.txt"]).files) == 8


def test_samples_beside_the_class_folders_are_named(tmp_path):
    write_files(tmp_path, in_parts() | files("train/lost.dat"))
    assert "1 samples lie beside the class folders: " in refusal(tmp_path) and "train/lost.dat" in refusal(tmp_path)


def test_files_beside_the_class_folders_are_no_samples_if_no_class_folder_has_their_ending(tmp_path, caplog):
    write_files(tmp_path, in_parts() | files("train/README.txt"))
    with caplog.at_level(logging.INFO):
        listing = own_files.find(tmp_path, OwnFilesParams(), (".dat", ".txt"))
    assert len(listing.files) == 8
    assert "1 files beside the class folders of" in caplog.text and "train/README.txt" in caplog.text
    write_files(tmp_path, files("train/cat/notes.txt"))
    message = r"train/README\.txt; move them into one, or list them in dataset\.params\.ignore"
    with pytest.raises(DataError, match=message):
        own_files.find(tmp_path, OwnFilesParams(), (".dat", ".txt"))


def test_files_in_hidden_folders_are_no_samples(tmp_path):
    write_files(tmp_path, in_parts() | files("train/cat/.ipynb_checkpoints/0-checkpoint.dat", "train/.cache/1.dat"))
    assert len(find(tmp_path).files) == 8


def test_classes_that_are_stated_have_that_order_and_no_others_are_there(tmp_path):
    write_files(tmp_path, in_parts())
    assert find(tmp_path).class_names(OwnFilesParams(classes=["dog", "cat"])) == ("dog", "cat")
    assert "1 classes that dataset.params.classes lacks: dog" in refusal(tmp_path, classes=["cat", "bird"])
    assert "a class is stated twice" in refusal(tmp_path, classes=["cat", "dog", "dog"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no samples: expected a folder for each class"),
        (["cat/0.dat", "cat/1.dat"], "only the class 'cat'"),
        (
            ["train/cat/0.dat", "train/dog/0.dat", "test/cat/1.dat", "test/bird/1.dat"],
            "1 classes without a sample to train on: bird",
        ),
    ],
)
def test_a_folder_without_enough_in_it_is_refused(tmp_path, names, message):
    write_files(tmp_path, files(*names))
    params = {} if len(names) > 2 else {"split": {"test": 0.5}}
    assert message in refusal(tmp_path, **params)


def test_a_file_that_is_in_both_splits_through_a_link_is_an_error(tmp_path):
    write_files(tmp_path, in_parts())
    (tmp_path / "test/cat/link.dat").symlink_to(tmp_path / "train/cat/0.dat")
    listing = find(tmp_path)
    with pytest.raises(DataError, match=r"1 files are in both of train and test: .*link\.dat = .*train/cat/0\.dat"):
        own_files.in_two_splits(listing, listing.splits(OwnFilesParams(), ("cat", "dog")))


def test_a_link_to_nothing_is_named(tmp_path):
    write_files(tmp_path, in_parts())
    (tmp_path / "train/cat/gone.dat").symlink_to("/nowhere/gone.dat")
    assert "gone.dat" in refusal(tmp_path)


@pytest.mark.parametrize("heading", ["path,label,part,set", "filename,image,label", "path,class,category"])
def test_a_table_with_two_columns_for_the_same_is_refused(tmp_path, heading):
    fields = heading.count(",") - 1
    write_files(
        tmp_path, files("0.dat", "1.dat") | {"t.csv": table(heading, "0.dat" + ",cat" * fields, "1.dat" + ",dog" * fields)}
    )
    assert "could each be the column" in refusal(tmp_path)


def test_a_link_that_leads_back_is_named(tmp_path):
    write_files(tmp_path, in_parts())
    (tmp_path / "train/cat/loop").symlink_to(tmp_path / "train")
    assert "a symbolic link leads back" in refusal(tmp_path)


def test_names_that_are_no_text_do_not_fail(tmp_path):
    write_files(tmp_path, in_parts())
    (tmp_path / "train/cat/0.dat").rename(tmp_path / "train/cat" / os.fsdecode(b"\xff.dat"))
    assert len(find(tmp_path).files) == 8


def test_labels_follow_the_order_of_the_names(tmp_path):
    write_files(tmp_path, files(*(f"{p}/{c}/{n}{p}.dat" for p in ("train", "test") for c in ("10", "2", "1") for n in range(2))))
    assert find(tmp_path).class_names(OwnFilesParams()) == ("1", "10", "2")
