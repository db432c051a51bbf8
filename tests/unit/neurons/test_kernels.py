"""The kernels of the GPU give what plain torch gives: here in Triton's interpreter, which the environment turns on for a process.

`tests/gpu/test_kernels.py` runs the same files on a real GPU.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted((Path(__file__).parent / "kernels").glob("*_cases.py"))


@pytest.mark.slow
@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem)
def test_kernels_agree_with_plain_operations(cases):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(cases)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
