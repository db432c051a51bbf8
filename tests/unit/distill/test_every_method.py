"""What every method of distill/ promises; a new file is tested the moment it exists. The checks are those of `check-plugin`."""

import subprocess
import sys

import pytest

from spikedistill import components
from spikedistill.contract import methods
from tests.unit.distill.batches import METHODS, every_choice


def test_the_methods_are_found():
    assert set(METHODS) >= {"ce", "tet", "kd", "tdd", "sealkd", "ckdsnn", "esd"}


@pytest.mark.parametrize("check", methods.ONCE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_method(name, check):
    check(components.load("distill", name))


@every_choice
@pytest.mark.parametrize("check", methods.OF_EACH_CHOICE, ids=lambda check: check.__name__)
def test_method_with(name, params, check):
    check(components.load("distill", name), params)


def test_importing_methods_and_settings_does_not_import_torch():
    names = [components.module_of("distill", name) for name in METHODS]
    modules = [*names, "spikedistill.neurons.settings", "spikedistill.train.settings"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
