"""What is freed stays with the process. In processes of their own, because the setting cannot be undone."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from spikedistill.data.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(10):
    torch.zeros(2**24).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.zeros(2**24).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_tensors_come_from_memory_that_was_freed():
    faults = [int(subprocess.check_output([sys.executable, "-c", PROGRAM, mode])) for mode in ("default", "kept")]
    assert faults[1] < 100 < faults[0]
