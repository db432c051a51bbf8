"""Run Python on fake GPUs: `python -m tests.gpu.fake [--gpus N] SCRIPT.py|-m MODULE [ARGUMENT...]`, at the top of the checkout.

Replaces cuDNN and cuBLAS in that process (see `libraries`); processes that it starts have the fake GPUs, too, and call
`replace_libraries` themselves.
"""

import argparse
import os
import runpy
import sys

from tests.gpu.fake.build import fake_environment
from tests.gpu.fake.counts import is_fake


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.fake", description="Run Python on fake GPUs.")
    parser.add_argument("--gpus", type=int, default=1, help="number of fake GPUs (default: 1)")
    parser.add_argument("-m", dest="is_module", action="store_true", help="the program is a module")
    parser.add_argument("program", help="path of a script, or name of a module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    if not is_fake():  # again, with the fake runtime loaded before everything else
        command = [sys.executable, "-m", "tests.gpu.fake", *sys.argv[1:]]
        os.execve(sys.executable, command, fake_environment(chosen.gpus))
    from tests.gpu.fake.libraries import replace_libraries

    replace_libraries()
    sys.argv = [chosen.program, *chosen.arguments]
    if chosen.is_module:
        runpy.run_module(chosen.program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(chosen.program, run_name="__main__")


main()
