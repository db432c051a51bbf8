"""The table of faults of tests/mutants fits the package: `make mutants` can make every one of them."""

import ast
import functools

import pytest

from tests.mutants.table import PACKAGE, ROOT, StaleFault, all_faults

FAULTS = all_faults()
FEWEST = 150


@functools.cache
def source(file):
    return (PACKAGE / file).read_text(encoding="utf-8")


@functools.cache
def tree(text):
    return ast.dump(ast.parse(text))


@pytest.mark.parametrize("file", sorted({fault.file for fault in FAULTS}))
def test_every_fault_of_a_module_changes_its_syntax_tree(file):
    trees = {}
    for fault in (each for each in FAULTS if each.file == file):
        changed = tree(fault.applied(source(file)))
        assert changed != tree(source(file)), fault
        assert changed not in trees, f"{fault} is the same as {trees[changed]}"
        trees[changed] = fault


def test_faults_have_names_of_their_own_and_there_are_many():
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS) >= FEWEST


def test_the_tests_that_must_notice_exist():
    named = {file for fault in FAULTS for _, file in fault.runs}
    assert [test for test in sorted(named) if not (ROOT / "tests" / test).is_file()] == []


def test_a_fault_whose_text_is_gone_says_where_to_mend_it():
    fault = FAULTS[0]
    with pytest.raises(StaleFault, match=rf"{fault.file} has .* 0 times instead of once.*tests/mutants/{fault.table}"):
        fault.applied("edited = True\n")
