import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.partitions import choose_partition, read_minutes, read_partitions
from snakemake_executor_plugin_submitit.request.resources import parse_resources

LIMITS = """\
partitions:
  short:
    max_runtime: 04:00:00
    max_mem_mb: 64000
    max_threads: 16
  long:
    max_runtime: 7d
    max_mem_mb: 64000
    max_cpus_per_task: 16
  big:
    max_mem_mb: 1000000
    available_constraints: [fast, bigmem]
    supports_mpi: false
  gpu:
    max_runtime: 2-00:00:00
    max_nodes: 4
    max_gpus: 8
    max_mem_mb: 500000
    max_cpus_per_gpu: 12
    available_gpu_models: [a100, h100]
  far:
    cluster: other
    max_gpu: 16
"""


@pytest.fixture
def limits(tmp_path):
    path = tmp_path / "partitions.yaml"
    path.write_text(LIMITS)
    return path


def choose(limits, **resources):
    return choose_partition(parse_resources(resources), read_partitions(limits), limits).sbatch


@pytest.mark.parametrize(
    ("resources", "name"),
    [
        ({"runtime": 60, "mem_mb": 1000}, "short"),
        ({"runtime": 241}, "long"),
        ({"runtime": 60, "mem_mb": 65000}, "big"),
        ({"runtime": 60, "mem_mb": 65000, "nodes": 2}, "gpu"),
        ({"cpus_per_task": 17}, "big"),
        ({"gpu": 1}, "gpu"),
        ({"gres": "gpu:h100:8", "runtime": 2880}, "gpu"),
        ({"constraint": "fast&bigmem", "mem_mb": 100000}, "big"),
        ({"slurm_partition": "mine", "gpu": 99}, "mine"),
    ],
)
def test_the_partition_that_fits_best_is_taken(limits, resources, name):
    assert choose(limits, **resources)["partition"] == name


def test_a_partition_of_another_cluster_is_taken_when_the_run_goes_there(limits, monkeypatch):
    with pytest.raises(WorkflowError, match="far: it is on cluster other, and SLURM_CLUSTERS does not say so"):
        choose(limits, gpu=12)
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    assert choose(limits, gpu=12) == {"partition": "far"}


def test_when_none_fits_each_says_why(limits):
    with pytest.raises(WorkflowError) as caught:
        choose(limits, gpu=8, gpu_model="v100", nodes=5, runtime=3000, cpus_per_task=97)
    message = str(caught.value)
    assert f"no partition of {limits} takes this job" in message
    assert "short: gpus_per_node 8 is more than 0; runtime 3000 is more than 240; cpus_per_task 97 is more than 16" in message
    assert "; one task only" in message
    assert "nodes 5 is more than 4" in message
    assert "cpus_per_gpu 12.125 is more than 12" in message
    assert "no GPU of model v100" in message
    assert "far: it is on cluster other" in message


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:30", 90.5),
        ("1:30:00", 90),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("2-00:00:30", 2880.5),
        ("1.5h", 90),
        ("1d 12h", 36 * 60),
    ],
)
def test_times_are_read_as_slurm_and_snakemake_write_them(text, minutes):
    assert read_minutes(text) == minutes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitions: [a, b]", "expected `partitions:` with a mapping"),
        ("gpu: {}", "expected `partitions:` with a mapping"),
        ("partitions: {a: 3}", "partition a: expected a mapping from limits to values, found '3'"),
        ("partitions: {a: {max_memory: 3}}", "partition a: max_memory is not known; known are max_runtime"),
        ("partitions: {a: {max_runtime: soon}}", "a: max_runtime='soon': expected minutes, or a time like"),
        ("partitions: {a: {max_nodes: many}}", "a: max_nodes='many': expected a number"),
        ("partitions: {a: {max_nodes: -1}}", "a: max_nodes='-1': expected a number"),
        ("partitions: {a: {available_gpu_models: {a100: 1}}}", "available_gpu_models: expected a list of names"),
        ("partitions: {a", "this is not YAML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, text, message):
    path = tmp_path / "partitions.yaml"
    path.write_text(text)
    with pytest.raises(WorkflowError, match=r"partitions\.yaml: ") as caught:
        read_partitions(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WorkflowError, match=r"nothing\.yaml: the file of partitions cannot be read"):
        read_partitions(tmp_path / "nothing.yaml")
