"""Students that run all time steps at once in a configuration: what is refused before anything runs, and what to do."""

import copy
import json

import pytest

from spikedistill.config.check import parse_config
from spikedistill.config.schema import config_schema
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan

TRAIN = {"epochs": 1, "batch_size": 64}


def config(arch, *, methods=None, teacher="resnet8", side=32, dataset="digits", **student):
    params = {"num_frames": student.get("time_steps", 4)} if dataset == "digits-dvs" else {}
    experiment = {
        "dataset": {"name": dataset, "params": params, "inputs": {"resize": {"size": side, "antialias": True}}},
        "teacher": {"arch": teacher, "train": TRAIN},
        "student": {"arch": arch, "time_steps": 4, "train": TRAIN} | student,
        "methods": methods or {"tet": {}, "kd": {}, "sealkd": {}, "ckdsnn": {}},
    }
    return {"experiments": {"one": copy.deepcopy(experiment)}}


@pytest.mark.parametrize("dataset", ["digits", "digits-dvs"])
@pytest.mark.parametrize("arch", ["sew_resnet50", "spiking_vgg11_bn", "qkformer_10_384", "CIFAR10Net"])
def test_what_fits_is_planned_with_the_models_own_arguments_in_the_spec(arch, dataset):
    plan = build_plan(parse_config(config(f"spikingjelly/{arch}", dataset=dataset)))
    students = [spec for spec in plan.stages.values() if spec.stage == "distill"]
    assert {spec.network["model"] for spec in students} == {arch}
    assert len({spec.id for spec in students}) == 4
    assert all(f"spikingjelly-{arch}" in spec.ref for spec in students)


REFUSED = {
    "another size": ({"arch": "CIFAR10Net", "side": 28}, "student.arch: 'spikingjelly/CIFAR10Net' takes inputs of 32x32 only"),
    "what fits": ({"arch": "CIFAR10Net", "side": 28}, "dataset.inputs.resize: {size: 32, antialias: true}"),
    "too small": ({"arch": "spiking_vgg11_bn", "side": 16}, "student.arch: 'spikingjelly/spiking_vgg11_bn' halves its inputs"),
    "too few steps": (
        {"arch": "masnn_dvs128_gesture"},
        "time_steps: 'spikingjelly/masnn_dvs128_gesture' needs at least 5",
    ),
    "classes": ({"arch": "DVSGestureNet", "side": 128}, "is for 11 classes only, and the dataset has 10"),
    "rate": ({"arch": "sew_resnet18", "backward": "rate", "methods": {"ce": {}}}, "student.backward: rate needs layers of"),
    "side branches": ({"arch": "sew_resnet18", "methods": {"esd": {}}}, "methods.esd: needs side branches, which"),
    "width": ({"arch": "sew_resnet18", "width": 0.5}, "student.width: is for architectures of spikedistill"),
    "teacher": (
        {"arch": "sew_resnet18", "teacher": "spikingjelly/sew_resnet18"},
        "teacher.arch: 'spikingjelly/sew_resnet18' is",
    ),
    "unknown": ({"arch": "sew_resnet19"}, "unknown spikingjelly model 'sew_resnet19'. Did you mean 'sew_resnet1"),
    "online": ({"arch": "ottt_spiking_vgg11"}, "'ottt_spiking_vgg11' learns online, one time step at a time"),
}


@pytest.mark.parametrize(("values", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(values, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(config(f"spikingjelly/{values['arch']}", **{key: each for key, each in values.items() if key != "arch"}))
    assert said in str(caught.value)


def test_methods_that_compare_maps_are_refused_with_a_module_that_does_not_tell_its_own(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bare.py").write_text(
        'ARCHITECTURES = {"bare": {"multi_step": True}}\n\n\ndef build_multi_step(entry, **shape):\n    ...\n'
    )
    values = {**config("bare", methods={"kd": {}, "ckdsnn": {}, "fitnet": {}}), "plugins": [str(tmp_path)]}
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    assert "methods.ckdsnn: compares maps, and 'bare' does not offer its own" in str(caught.value)
    assert "methods.fitnet: compares maps" in str(caught.value) and "methods.kd" not in str(caught.value)


def test_a_rehearsal_keeps_the_width():
    values = config("spikingjelly/sew_resnet18")
    rehearsed = build_plan(parse_config({**values, "rehearse": True}))
    networks = [json.dumps(spec.network) for spec in rehearsed.stages.values() if spec.stage == "distill"]
    plain = [json.dumps(spec.network) for spec in build_plan(parse_config(values)).stages.values() if spec.stage == "distill"]
    assert networks == plain


def test_editors_accept_models_of_other_libraries_as_students():
    allowed = config_schema()["$defs"]["StudentConfig"]["properties"]["arch"]
    assert "^[a-z]+/." in json.dumps(allowed)
