"""Estimates of time and memory, and what stages ask for because of them."""

import dataclasses
import functools

import pytest

from snakemake_executor_plugin_submitit.request.resources import parse_resources
from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.launch.resources import required_resources, stage_resources
from spikedistill.plan import estimate
from spikedistill.plan.build import build_plan
from spikedistill.plan.costs import work
from spikedistill.plan.costs.gpus import choose_gpu
from spikedistill.plan.costs.work import network_counts
from spikedistill.plan.estimate import Estimator, total
from spikedistill.train.settings import EngineConfig


def plan(*, epochs=100, time_steps=4, batch_size=64, arch="resnet18", teacher="resnet34", **student):
    train = {"epochs": epochs, "batch_size": batch_size}
    return build_plan(
        parse_config(
            {
                "experiments": {
                    "a": {
                        "dataset": {"name": "digits"},
                        "teacher": {"arch": teacher, "train": train},
                        "student": {"arch": arch, "time_steps": time_steps, "train": train, **student},
                        "methods": {"kd": {"params": {"logits": "mean"}}},
                    }
                }
            }
        )
    )


def cost(stage="distill", gpus=1, **changes):
    planned = plan(**changes)
    (ref,) = (ref for ref, spec in planned.stages.items() if spec.stage == stage)
    return Estimator(planned)(ref, gpus)


def seconds(**changes):
    return 3600 * cost(**changes).hours - estimate.START_S


def core_seconds(**changes):
    """Without the start of the stage."""
    found = cost(gpus=0, **changes)
    return (3600 * found.hours - estimate.START_S) * found.cpus


def test_time_on_a_cpu_is_that_of_the_formula():
    counts, scale = network_counts(), (8 / 32) ** 2
    macs = scale * (4 * counts["resnet18"]["macs"] + counts["resnet34"]["macs"] / 3)
    elements = scale * (4 * counts["resnet18"]["elements"] + counts["resnet34"]["elements"] / 3)
    expected = 1437 * 100 * (macs / estimate.CORE_MACS + elements / estimate.CORE_ELEMENTS) / 2
    assert seconds(gpus=0) == pytest.approx(expected)
    assert seconds(gpus=0, epochs=300) == pytest.approx(3 * expected)


def test_memory_grows_with_time_steps_unless_training_is_rate_based():
    def tensors(time_steps, **student):
        student |= {"neuron": {"reset": "soft", "detach_reset": True}}
        return cost(time_steps=time_steps, batch_size=512, **student).gpu_mb

    held = 1.2 * 512 * network_counts()["resnet18"]["elements"] / 16 * 3.9 / 1e6  # of one step
    assert tensors(8) - tensors(4) > 4 * held
    assert tensors(8, backward="rate") - tensors(4, backward="rate") < held
    assert core_seconds(backward="rate") < core_seconds() * 0.7
    held_on = {gpus: cost(batch_size=512, gpus=gpus).gpu_mb for gpus in (1, 2, 4)}
    assert held_on[1] - held_on[2] == pytest.approx(2 * (held_on[2] - held_on[4]), abs=4)


def test_memory_grows_by_the_copies_of_the_weights_that_a_recipe_needs():
    def of(**recipe):
        return cost(train={"epochs": 100, "batch_size": 64, **recipe}).gpu_mb

    copy = 1.2 * 4 * network_counts()["resnet18"]["parameters"] / 1e6
    assert of(optimizer={"name": "adamw"}) - of() == pytest.approx(copy, abs=1)
    assert of(optimizer={"name": "adamw"}, ema=0.999) - of() == pytest.approx(2 * copy, abs=1)


@pytest.mark.parametrize(("window", "held"), [(1000, 500), (8192, 1437 // 2)])
def test_a_chunked_shuffle_holds_half_of_its_window(window, held):
    planned = plan(train={"epochs": 1, "batch_size": 64, "chunked_shuffle": {"window": window}})
    spec = next(spec for spec in planned.stages.values() if spec.stage == "distill")
    found = work.training_work(planned, spec)
    assert found.window_bytes == pytest.approx(held * 64, abs=64)
    larger = dataclasses.replace(found, window_bytes=found.window_bytes + 4 * 10**9)
    for gpus, more in ((0, 4000), (1, 4000), (2, 2000)):
        assert host_mb(larger, gpus) - host_mb(found, gpus) == pytest.approx(more, abs=1)


def host_mb(needed, gpus):
    if not gpus:
        return estimate._on_cpu(needed).host_mb
    return estimate._on_gpus(needed, gpus, choose_gpu(None, None), EngineConfig()).host_mb


def test_a_narrow_network_costs_less_and_a_small_one_needs_no_gpu():
    assert core_seconds(width=0.5) < core_seconds() / 2
    assert cost(gpus=None, epochs=1, width=0.125).gpus == 0
    long = cost(gpus=None, epochs=10_000)
    assert (long.gpus, long.hours < 24) == (1, True)


def test_stages_of_small_steps_ask_for_one_cpu_so_that_two_run_side_by_side():
    assert cost(gpus=0, width=0.125).cpus == 1
    assert cost(gpus=0).cpus == estimate.CPUS


def test_networks_are_counted_at_the_size_that_they_see():
    assert set(components.architectures()) <= set(network_counts()), "run python benchmarks/costs.py --write"


def test_what_is_not_known_is_guessed_and_named(monkeypatch):
    monkeypatch.setattr(
        work, "network_counts", lambda: {"resnet18": {"side": 32, "macs": 1, "elements": 1, "layers": 1, "parameters": 1}}
    )
    guess = cost(arch="resnet34")
    assert "size of resnet34" in guess.guessed
    assert "guessed: size of resnet34" in total([guess])


def test_stages_ask_for_what_they_need_and_for_more_memory_on_a_retry():
    planned = plan(epochs=300)
    (ref,) = (ref for ref, spec in planned.stages.items() if spec.stage == "distill")
    find = functools.partial(Estimator(planned), ref)
    first = required_resources(find, {})
    assert (first["gpus_per_node"], first["tasks_per_node"], first["nodes"]) == (1, 1, 1)
    assert first["runtime"] == max(30, -(-find(1).hours * 120 // 1))
    assert required_resources(find, {}, attempt=2)["mem_mb"] == 2 * first["mem_mb"]
    two = required_resources(find, {"nodes": 2, "gpus_per_node": "4"})
    assert (two["nodes"], two["gpus_per_node"], two["tasks_per_node"]) == (2, 4, 4)
    assert two["mem_mb"] == 4 * find(8).host_mb
    assert required_resources(find, {"gpus_per_node": 0, "tasks_per_node": 2})["gpus_per_node"] == 0


def test_a_stage_longer_than_a_job_may_be_is_requeued_often_enough():
    asked = required_resources(lambda gpus: estimate.Cost(hours=50, gpus=1, cpus=4, gpu_mb=1, host_mb=1), {})
    assert asked["runtime"] == 1440
    assert asked["max_requeues"] * asked["runtime"] >= 50 * 60 * 2


def test_profiles_override_what_a_stage_needs():
    profile = {"default-resources": {"mem_mb": 1, "slurm_partition": "gpu"}, "set-resources": {"distill": {"nodes": 3}}}
    one = estimate.Cost(hours=1, gpus=0, cpus=2, gpu_mb=0, host_mb=700)
    resources = stage_resources("distill", profile, {"runtime": 5}, lambda gpus: one)
    assert (resources["nodes"], resources["runtime"], resources["slurm_partition"]) == (3, 5, "gpu")
    assert resources["mem_mb"] == 700
    assert stage_resources("distill", {"set-resources": ["distill:nodes=4"]}, {}, lambda gpus: one)["nodes"] == 4


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"gpus_per_node": 4}, (1, 4, 4, 6)),
        ({"gpus": "4"}, (1, 4, 4, 6)),
        ({"gpu": 4, "nodes": 2}, (2, 4, 4, 6)),
        ({"gres": "gpu:a100:4"}, (1, 4, 4, 6)),
        ({"gres": "gpu:2,lscratch:100", "nodes": 2}, (2, 2, 2, 6)),
        ({"gres": "lscratch:100"}, (1, 2, 2, 6)),
        ({"tasks_per_gpu": 2}, (1, 2, 4, 6)),
        ({"tasks": 6, "nodes": 2}, (2, 1, 3, 6)),
        ({"cpus_per_gpu": 8}, (1, 2, 2, 8)),
        ({"cpus_per_task": 3, "gpus": 1}, (1, 1, 1, 3)),
        ({"nodes": "attempt"}, (1, 2, 2, 6)),
        ({"gpus": 0}, (1, 0, 1, 6)),
    ],
)
def test_what_a_job_asks_for_keeps_what_is_given_under_each_of_its_names(given, shape):
    seen = []

    def find(gpus):
        seen.append(gpus)
        return estimate.Cost(hours=1, gpus=2 if gpus is None else gpus, cpus=6, gpu_mb=1, host_mb=100)

    resources = stage_resources("distill", {}, given, find)
    request = parse_resources({name: value for name, value in resources.items() if value != "attempt"})
    assert (request.nodes, request.gpus_per_node, request.tasks_per_node, request.cpus_per_task) == shape
    assert resources["mem_mb"] == 100 * request.tasks_per_node
    named = bool(given.keys() & {"gpus_per_node", "gpus", "gpu"}) or "gpu:" in given.get("gres", "")
    assert seen == [request.nodes * request.gpus_per_node if named else None]


def test_resources_that_contradict_each_other_are_told():
    one = estimate.Cost(hours=1, gpus=1, cpus=2, gpu_mb=0, host_mb=700)
    with pytest.raises(ConfigError, match="request GPUs once"):
        required_resources(lambda gpus: one, {"gpus_per_node": 4, "gres": "gpu:4"})
    with pytest.raises(ConfigError, match="tasks=3: cannot be shared equally by nodes=2"):
        required_resources(lambda gpus: one, {"tasks": 3, "nodes": 2})
    with pytest.raises(ConfigError, match="resource nodes=0: expected 1 or more"):
        required_resources(lambda gpus: one, {"nodes": 0})
    with pytest.raises(ConfigError, match="set-resources: expected a mapping of stages to their resources, found 5"):
        stage_resources("distill", {"set-resources": 5}, {}, lambda gpus: one)
