"""Both wheels, built, and installed in an environment outside the checkout.

What they depend on (torch above all, several GB) comes from the environment of the tests, by a path file; `make test` has
installed it there from the same metadata.
"""

import subprocess
import sys
import sysconfig
import venv

import pytest

from tests.workflow.project import ROOT

PLUGIN = ROOT / "src" / "snakemake-executor-plugin-submitit"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out)]
    subprocess.run([*build, str(ROOT), str(PLUGIN)], check=True)
    return sorted(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheels, tmp_path_factory):
    """The python of an environment with both wheels and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", *map(str, wheels)], check=True
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python, snakemake = folder / "bin" / "python", folder / "bin" / "snakemake"
    snakemake.write_text(f"#!{python}\nfrom snakemake.cli import main\n\nmain()\n")
    snakemake.chmod(0o755)
    return python
