"""The battery for whoever has a GPU: tests of what runs on it, then figures, in parts of less than ten minutes.

    make gpu                                         everything, in a virtual environment with what it needs
    python -m benchmarks.gpu                         the same, in this environment; from the top of the checkout
    python -m benchmarks.gpu --list                  the parts, and which of them are done
    python -m benchmarks.gpu --parts step-128 lif    some of them
    python -m benchmarks.gpu --minutes 12            what can be done in that time
    python -m benchmarks.gpu --fake                  a short version of all, on the fake GPU of the tests: shows that it runs

Each part leaves a record, a JSON file with the GPU, its driver, versions, commit, commands and figures, in the folder
`benchmarks/results/gpu-MODEL` or the one that `--out` names. A part that is done, on this GPU with this torch at this commit, is
not done again, so an interrupted battery continues. The first parts are those that matter most. When `constants` is done, the
figures for estimates lie in `gpus.json` beside the records; `--install` copies them to where `spikedistill plan` looks, see
docs/gpu.md.

Needed are Python 3.11 or newer, Linux, a driver that suits the CUDA of torch, and these packages: torch (2.8 or newer),
torchvision, spikingjelly, numpy, pydantic, pyyaml, pillow, scipy, safetensors, tensorboard, tabulate, tqdm, for the tests pytest,
too. The package itself need not be installed, and no network is used. A part that lacks a package is not run, and names it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "src" / "snakemake-executor-plugin-submitit"
FOLDERS = (ROOT, ROOT / "src", PLUGIN, PLUGIN / "tests")
"""What Python has to find, installed or not."""


def main() -> int:
    """Run parts; return 0 if all of them ended well."""
    options = _options()
    missing = [name for name in ("torch", "numpy", "pydantic", "yaml") if importlib.util.find_spec(name) is None]
    if missing:
        return _stop(f"it needs {', '.join(missing)}; python -m benchmarks.gpu --help lists everything")
    sys.path[:0] = map(str, FOLDERS)
    from benchmarks.gpu.battery import run
    from spikedistill.errors import SpikedistillError

    try:
        return run(options, FOLDERS)
    except SpikedistillError as err:
        return _stop(str(err))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="only these; --list shows their names")
    parser.add_argument("--list", action="store_true", help="show the parts and which are done")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; what is left can be run later")
    parser.add_argument("--again", action="store_true", help="run parts that are done, too")
    parser.add_argument("--short", action="store_true", help="little of everything: shows that it runs, not how fast")
    parser.add_argument("--fake", action="store_true", help="in short, on the fake GPU of the tests")
    parser.add_argument("--out", type=Path, help="folder of the records (default: benchmarks/results/gpu-MODEL)")
    parser.add_argument("--install", action="store_true", help="use what part constants found for estimates from now on")
    options = parser.parse_args()
    options.short |= options.fake
    return options


def _stop(message: str) -> int:
    print(f"benchmarks.gpu: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
