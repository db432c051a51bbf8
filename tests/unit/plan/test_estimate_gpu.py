"""Estimates for GPUs: the roofline, the choice of their number, figures of data sheets and of this site, what is told."""

import json
from dataclasses import replace

import pytest

from spikedistill.errors import ConfigError
from spikedistill.launch.resources import gpu_model
from spikedistill.plan import estimate
from spikedistill.plan.costs import gpus
from spikedistill.plan.costs.gpus import choose_gpu, key_of, measured_path
from spikedistill.plan.costs.roofline import device_seconds, exchange_seconds, host_seconds, step_seconds
from spikedistill.plan.costs.work import Work, network_counts
from spikedistill.plan.estimate import Cost, total
from spikedistill.train.settings import EngineConfig

MEASURED = {
    "label": "H100",
    "memory_gb": 79.6,
    "tflops": {"float32": 210.0, "bf16": 400.0},
    "bandwidth_gb_s": 2900.0,
    "launch_us": 12.0,
    "measured_on": "2026-11-29",
}


@pytest.fixture(autouse=True)
def no_figures_of_this_site(monkeypatch, tmp_path):
    """Whoever runs the tests may have measured."""
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def write_figures(tmp_path):
    def write(content, mode=0o644):
        file = tmp_path / "config" / "spikedistill" / "gpus.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps({"gpus": content}))
        file.chmod(mode)
        return file

    return write


def cifar_work(batch=128, precision="bf16", time_steps=4):
    """ResNet-18 taught by a ResNet-34 on CIFAR-10, as the recipes have it."""
    student, teacher = network_counts()["resnet18"], network_counts()["resnet34"]
    return Work(
        samples=50_000,
        macs=time_steps * student["macs"] + teacher["macs"] / 3,
        elements=time_steps * student["elements"] + teacher["elements"] / 3,
        layers=student["layers"] + teacher["layers"] / 3,
        fusible=time_steps * student["elements"] / (time_steps * student["elements"] + teacher["elements"] / 3),
        held_elements=time_steps * student["elements"],
        transient_elements=0.0,
        parameter_bytes=16 * student["parameters"],
        gradient_bytes=4 * student["parameters"],
        batch=batch,
        precision=precision,
        sample_bytes=12_288,
        store_bytes=50_000 * 3072,
        resident_bytes=50_000 * 3072,
        window_bytes=0,
        from_files=False,
        guessed=(),
    )


def images_per_second(name, batch=128, count=1, **engine):
    work = cifar_work(batch)
    return batch / step_seconds(work, count, choose_gpu(name, None), EngineConfig(**engine))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h100", 11_500),  # 10 to 12 ms for 128 images by operations, bytes and launches, counted by hand
        ("a100", 4_900),  # airbench96, a ResNet-18 on an A100, sustains 77 TFLOP/s; this step takes 15.6 GFLOP per image
    ],
)
def test_a_step_takes_the_time_that_was_calculated_by_hand_within_a_factor_of_one_and_a_half(name, expected):
    assert expected / 1.5 < images_per_second(name) < expected * 1.5


def test_the_parts_of_a_step_are_those_of_the_count_by_hand():
    h100, work = choose_gpu("h100", None), cifar_work()
    without_traffic = device_seconds(replace(work, elements=0.0), 128, h100, EngineConfig())
    assert 0.0045 < without_traffic < 0.0057
    assert device_seconds(work, 128, h100, EngineConfig()) - without_traffic == pytest.approx(0.0034, rel=0.4)
    assert 0.0066 < host_seconds(work, h100, EngineConfig()) < 0.010


def test_fused_layers_move_and_hold_less_unless_they_are_compiled():
    h100, work = choose_gpu("h100", None), cifar_work()
    plain, fused, compiled = EngineConfig(), EngineConfig(fuse=True), EngineConfig(fuse=True, compile=True)
    assert device_seconds(work, 128, h100, fused) < 0.9 * device_seconds(work, 128, h100, plain)
    assert device_seconds(work, 128, h100, compiled) == device_seconds(work, 128, h100, plain)
    held = {key: estimate._on_gpus(work, 1, h100, engine).gpu_mb for key, engine in (("plain", plain), ("fused", fused))}
    assert held["plain"] - held["fused"] == pytest.approx(1.2 * 128 * work.held_elements * 2.9 / 2 / 1e6, abs=2)


def test_a_faster_model_is_never_slower():
    rates = [images_per_second(name) for name in ("v100", "rtx4090", "a100", "h100", "h200")]
    assert rates == sorted(rates)


def test_with_few_images_per_gpu_the_host_sets_the_pace_unless_the_step_is_a_graph():
    assert images_per_second("h100", batch=16) < 16 / 128 * 1.3 * images_per_second("h100")
    assert images_per_second("h100", batch=16, cuda_graph=True) > 3 * images_per_second("h100", batch=16)
    work, h100 = cifar_work(), choose_gpu("h100", None)
    assert host_seconds(work, h100, EngineConfig(accumulate=4)) == 4 * host_seconds(work, h100, EngineConfig())


@pytest.mark.parametrize("name", ["v100", "a100", "h100", "h200", "rtx4090"])
@pytest.mark.parametrize("engine", [{}, {"cuda_graph": True}])
def test_more_images_take_longer_and_never_more_time_per_image(name, engine):
    for count in (1, 4, 16):
        steps = [b / images_per_second(name, b, count, **engine) for b in (16, 32, 64, 128, 256, 512, 1024)]
        assert steps == sorted(steps)
        per_image = [s / b for s, b in zip(steps, (16, 32, 64, 128, 256, 512, 1024), strict=True)]
        assert per_image == sorted(per_image, reverse=True)


def test_gradients_take_longer_to_exchange_between_nodes():
    h100, work = choose_gpu("h100", None), cifar_work()
    assert exchange_seconds(work, 1, h100) == 0
    assert exchange_seconds(work, 8, h100) < 0.001 < exchange_seconds(work, 16, h100)


def chosen(work, name="h100", **engine):
    gpu = choose_gpu(name, None)
    counts = [n for n in estimate.GPU_COUNTS if work.batch % n == 0]
    return estimate._chosen([estimate._on_gpus(work, n, gpu, EngineConfig(**engine)) for n in counts], gpu)


def test_gpus_are_requested_while_they_save_time_that_is_needed():
    day = cifar_work()
    assert chosen(replace(day, samples=50_000 * 300)).gpus == 1
    months = replace(day, samples=50_000 * 300_000)
    assert chosen(months).gpus == 1  # 8 ms of the host for each step, on any number of GPUs
    assert chosen(months, cuda_graph=True).gpus == 8
    large = replace(months, batch=1024)
    assert chosen(large).gpus == 8
    assert chosen(replace(large, batch=1026)).gpus == 2  # 4 ranks cannot share them


def test_gpus_are_requested_until_the_batch_fits():
    work = replace(cifar_work(batch=1024, precision="float32"), held_elements=4 * cifar_work().held_elements)
    one = estimate._on_gpus(work, 1, choose_gpu("a100", None), EngineConfig())
    assert one.gpu_mb > 40_000
    fitting = chosen(work, "a100")
    assert fitting.gpus > 1
    assert fitting.gpu_mb <= 40_000
    assert chosen(work, "h200").gpus == 1


def test_a_split_that_a_gpu_keeps_counts_in_its_memory_up_to_a_quarter():
    a100 = choose_gpu("a100", None)

    def memory_mb(resident_bytes):
        return estimate._on_gpus(replace(cifar_work(), resident_bytes=resident_bytes), 1, a100, EngineConfig()).gpu_mb

    assert memory_mb(3_000_000_000) - memory_mb(0) == 3_000
    assert memory_mb(300_000_000_000) - memory_mb(0) == 10_000


def test_the_model_is_that_of_the_profile_then_of_the_configuration_then_assumed():
    assert choose_gpu("nvidia_h100_80gb_hbm3", "a100").described == "H100 (as the profile says, figures of its data sheet)"
    assert choose_gpu(None, "h200").described == "H200 (as engine.gpu says, figures of its data sheet)"
    assert choose_gpu(None, None).described == "A100 (assumed, set engine.gpu; figures of its data sheet)"
    unknown = choose_gpu("mi300x", None)
    assert (unknown.label, "no figures of the profile's mi300x" in unknown.origin) == ("A100", True)
    with pytest.raises(ConfigError, match=r"engine.gpu: 'h1oo' is not known; known are a100, h100"):
        choose_gpu(None, "h1oo")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA RTX A1000", "nvidia-rtx-a1000"),
        ("NVIDIA L40S", "nvidia-l40s"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "nvidia-a100-sxm4-40gb-mig-1g-5gb"),
    ],
)
def test_models_are_recognised_by_the_names_that_drivers_have_for_them(name, key):
    assert key_of(name) == key


@pytest.mark.parametrize(
    ("resources", "model"),
    [
        ({"gpus_per_node": 4, "gpu_model": "h100"}, "h100"),
        ({"gres": "gpu:a100:4"}, "a100"),
        ({"gres": "gpu:2,lscratch:9"}, None),
        ({}, None),
    ],
)
def test_the_model_is_found_in_the_resources_of_a_stage(resources, model):
    assert gpu_model(resources) == model


def test_measured_figures_take_the_place_of_those_of_data_sheets(write_figures):
    write_figures({"h100": MEASURED})
    assert choose_gpu("h100", None).flops["bf16"] == 4e14
    assert choose_gpu("h100", None).link == 3e11  # as published: it takes several GPUs to measure
    assert choose_gpu(None, None).described == "H100 (measured 2026-11-29)"
    assert choose_gpu("a100", None).label == "A100"
    write_figures({"h100": MEASURED, "nvidia-l40s": MEASURED | {"label": "L40S"}})
    assert choose_gpu(None, None).label == "A100"  # which of both is not known
    assert choose_gpu("nvidia_l40s", None).label == "L40S"
    assert choose_gpu(None, "nvidia-l40s").described == "L40S (as engine.gpu says, measured 2026-11-29)"


def test_a_site_names_its_file_in_the_environment(write_figures, monkeypatch, tmp_path):
    file = write_figures({"h100": MEASURED})
    elsewhere = file.rename(tmp_path / "site.json")
    assert choose_gpu(None, None).label == "A100"
    monkeypatch.setenv(gpus.VARIABLE, str(elsewhere))
    assert measured_path() == elsewhere
    assert choose_gpu(None, None).label == "H100"
    monkeypatch.setenv(gpus.VARIABLE, str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match=r"SPIKEDISTILL_GPUS: no such file: .*none.json"):
        choose_gpu(None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the file: Invalid JSON"),
        ({}, "gpus: Dictionary should have at least 1 item"),
        ({"h100": MEASURED | {"bandwidth_gb_s": -1}}, "gpus.h100.bandwidth_gb_s: Input should be greater than 0"),
        ({"h100": MEASURED | {"launch_us": float("nan")}}, "gpus.h100.launch_us: Input should be a finite number"),
        ({"h100": {"label": "H100"}}, "gpus.h100.memory_gb: Field required"),
        ({"h100": MEASURED | {"label": "a\x1b[2J"}}, "gpus.h100.label: String should match"),
    ],
)
def test_a_file_that_is_not_valid_is_an_error_that_names_the_key(write_figures, content, message):
    file = write_figures(content)
    with pytest.raises(ConfigError) as error:
        choose_gpu(None, None)
    assert str(file) in str(error.value)
    assert message in str(error.value)


def test_a_file_that_everyone_can_write_to_is_refused(write_figures):
    write_figures({"h100": MEASURED}, mode=0o666)
    with pytest.raises(ConfigError, match=r"every user of this machine can write to .*chmod o-w"):
        choose_gpu(None, None)


def test_the_sum_says_which_gpu_it_is_for():
    on_gpu = Cost(1.0, 1, 4, 1, 1, gpu=choose_gpu(None, None).described)
    assert total([on_gpu, on_gpu]).endswith("; GPU: A100 (assumed, set engine.gpu; figures of its data sheet)")
    assert "GPU:" not in total([Cost(1.0, 0, 4, 1, 1)])
