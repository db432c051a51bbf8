"""Snakemake's published tests of executors, and its features, on this machine."""

import pytest

from slurm_lab.conformance import PublishedTests
from slurm_lab.features import check_features
from slurm_lab.main_process import write_snakefile
from slurm_lab.running import snakemake

pytestmark = pytest.mark.slow
LOCAL = {"cluster": "local", "local_cpus": 2, "local_gpus": 0}


class TestLocal(PublishedTests):
    __test__ = True
    settings = LOCAL


class TestLocalPool(PublishedTests):
    __test__ = True
    settings = LOCAL
    pool = "2x2"


@pytest.mark.parametrize("pool", ["0", "2x2"])
def test_every_feature_works(tmp_path, pool):
    check_features(tmp_path, f"pool='{pool}'", cluster="local")


def test_immediate_submit_is_refused_before_anything_is_submitted(tmp_path):
    write_snakefile(tmp_path, 'rule noop:\n    output: "out.txt"\n    shell: "touch {output}"\n')
    done = snakemake(tmp_path, "--immediate-submit", "--notemp", cluster="local")
    assert done.returncode != 0
    assert "--immediate-submit: " in done.stdout and "--submitit-detach" in done.stdout
    assert not (tmp_path / "out.txt").exists() and "Traceback" not in done.stdout
