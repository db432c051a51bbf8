"""What the doctor tells of the environment, in a process of its own."""

import subprocess
import sys

import pytest

from slurm_lab.running import environment

pytestmark = pytest.mark.slow
PROGRAM = "from spikedistill.launch import doctor\nfor check in doctor._torch(): print(*check, sep=' | ')"
TELLS = "torch has no bytecode: every process"


@pytest.mark.parametrize("may_write", [False, True])
def test_it_warns_of_a_torch_that_every_process_compiles(tmp_path, may_write):
    variables = environment(PYTHONPYCACHEPREFIX=str(tmp_path), PYTHONDONTWRITEBYTECODE="" if may_write else "1")
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, check=True)
    assert "torch 2" in done.stdout
    assert (TELLS in done.stdout) != may_write
    assert ("-m compileall -q" in done.stdout) != may_write
