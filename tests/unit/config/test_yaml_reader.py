"""YAML that somebody wrote in a hurry: each fault is named with its place, and nothing is guessed."""

import pytest

from spikedistill.config.yaml_reader import MAX_DEPTH, read_mapping, read_yaml, read_yaml_file
from spikedistill.errors import ConfigError

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "m0: &m0 {a: 1, b: 2}\n" + "".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "mine.yaml, line 3: key 'a' appears twice, in line 1 and line 3; keep one"),
        ("x:\n  seeds: [1]\n  seeds: [2]", "key 'seeds' appears twice, in line 2 and line 3"),
        ("a: 2020-13-45", "mine.yaml, line 1: '2020-13-45' cannot be read as timestamp"),
        ("a: 0b_", "'0b_' cannot be read as int"),
        ("a: !!int foo", "'foo' cannot be read as int"),
        ("a: !!float foo", "'foo' cannot be read as float"),
        ("a: !!bool foo", "'foo' cannot be read as bool"),
        ("a: !!timestamp foo", "'foo' cannot be read as timestamp"),
        ("a: " + "9" * 5000, "cannot be read as int"),
        ("a: [1, !!set {x, y}]", "mine.yaml: a.1: expected text, a number, true, false, null, a list or a mapping; found set"),
        ("a: 0144", "mine.yaml, line 1: 0144 means 100 in YAML; write that, or leading zeros and colons in quotes"),
        ("a: [-010]", "-010 means -8 in YAML"),
        ("a: 1:30", "1:30 means 90 in YAML"),
        ("a: 1:30.5", "1:30.5 means 90.5 in YAML"),
        ("a: 2026-11-28", "a: expected text, a number, true, false, null, a list or a mapping; found date"),
        ("a: .nan", "a: not a number"),
        ("1: 2", "a key is text; write '1' in quotes"),
        ("? [a]\n: 1", "line 1: found unhashable key"),
        ("a: {<<: 3}", "line 1: expected a mapping or list of mappings for merging"),
        ("a: &x [*x]", "an alias contains itself"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("a: \0", "unacceptable character"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: 1\n---\nb: 1", "found another document"),
        ("[" * 3000 + "]" * 3000, f"nested more than {MAX_DEPTH} levels deep"),
        ("{a: " * 3000 + "1" + "}" * 3000, f"nested more than {MAX_DEPTH} levels deep"),
        (BOMB, "values once its aliases are expanded"),
    ],
)
def test_a_fault_is_named_with_its_place(text, message):
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "mine.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine.yaml")
    assert len(str(caught.value)) < 300


def test_merges_of_merges_do_not_multiply():
    try:  # PyYAML before 6.0.4 repeats every merged key
        assert read_yaml(MERGES, "mine.yaml")["m29"] == {"a": 1, "b": 2}
    except ConfigError as err:
        assert "keys of one mapping" in str(err)


def test_aliases_share_no_object_and_merges_may_be_overridden():
    read = read_yaml("a: &a {x: {y: 1}}\nb: *a\nc: {<<: *a, z: 2}\nd: {<<: *a, x: 3}", "mine.yaml")
    assert read == {"a": {"x": {"y": 1}}, "b": {"x": {"y": 1}}, "c": {"x": {"y": 1}, "z": 2}, "d": {"x": 3}}
    read["a"]["x"]["y"] = 5
    assert read["b"]["x"]["y"] == read["c"]["x"]["y"] == 1


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; say which"):
        read_yaml_file(tmp_path / "none.yaml", "say which")
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not text in UTF-8, at byte 3"):
        read_yaml_file(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml_file(tmp_path)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Too many levels of symbolic links"):
        read_yaml_file(tmp_path / "loop.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_mapping(tmp_path / "empty.yaml") == {}


def test_what_snakemake_reads_too_means_the_same():
    assert read_yaml("a: [010, 1:30]", "mine.yaml", of_snakemake=True) == {"a": [8, 90]}


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("-0", 0), ("0x10", 16), ("0b11", 3), ("1_000", 1000), ("0.5", 0.5), ("00.5", 0.5)]
)
def test_numbers_that_mean_what_they_look_like_are_read(text, number):
    assert read_yaml(f"a: {text}", "mine.yaml") == {"a": number}
