"""Snakemake's published tests of executors, and its features, as Slurm jobs: in arrays, one by one, and in pools."""

import os
from types import MappingProxyType

import pytest

from slurm_lab.conformance import PublishedTests
from slurm_lab.features import check_features


@pytest.fixture
def in_slurm(slurm_cluster, monkeypatch):
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")


@pytest.mark.usefixtures("in_slurm")
class TestArrays(PublishedTests):
    __test__ = True
    settings = MappingProxyType({"cluster": "slurm", "poll_seconds": 3.0})


@pytest.mark.usefixtures("in_slurm")
class TestWithoutArrays(PublishedTests):
    __test__ = True
    settings = MappingProxyType({"cluster": "slurm", "poll_seconds": 3.0, "array_size": 1})


@pytest.mark.usefixtures("in_slurm")
class TestPools(PublishedTests):
    __test__ = True
    settings = MappingProxyType({"cluster": "slurm", "poll_seconds": 3.0})
    pool = "2x2"


@pytest.mark.parametrize("pool", ["0", "2x2"])
def test_every_feature_works(slurm_cluster, tmp_path, pool):
    check_features(tmp_path, f"pool='{pool}'", cluster="slurm", **slurm_cluster.environment)
