"""What `import spikedistill` offers."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spikedistill
from spikedistill.errors import ConfigError

INIT = Path(spikedistill.__file__)


def in_a_new_process(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_import_alone_loads_next_to_nothing():
    loaded = in_a_new_process(
        "import sys, json; before = set(sys.modules); import spikedistill; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    heavy = {"torch", "numpy", "pydantic", "yaml", "snakemake", "submitit", "spikingjelly"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded)
    assert [name for name in loaded if name.startswith("spikedistill")] == ["spikedistill", "spikedistill.lazy"]


def test_what_needs_no_torch_does_not_load_it():
    program = (
        "import sys, json, spikedistill as s; s.list_methods(), s.list_datasets(), s.list_architectures();"
        "s.list_neurons(), s.NeuronConfig();"
        "s.open_store('.'), s.kd_divergence, s.sealkd_loss; print(json.dumps('torch' in sys.modules))"
    )
    assert in_a_new_process(program) is False


def test_dir_shows_every_name_and_each_is_there():
    assert dir(spikedistill) == sorted(spikedistill.__all__)
    assert all(callable(getattr(spikedistill, name)) for name in dir(spikedistill))


def test_type_checkers_see_the_same_names():
    (block,) = (node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(seen) == dir(spikedistill)
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(spikedistill, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = spikedistill.laod


def test_lists_hold_what_a_configuration_can_name():
    assert {"kd", "sealkd", "tdd", "esd"} <= set(spikedistill.list_methods())
    assert {"digits", "cifar10-dvs"} <= set(spikedistill.list_datasets())
    assert "resnet18" in spikedistill.list_architectures()
    assert {"lif", "plif"} <= set(spikedistill.list_neurons())
    assert "sgd" in spikedistill.list_optimizers()
    assert "cosine" in spikedistill.list_schedules()


def test_created_networks_map_images_and_frames_to_logits():
    student = spikedistill.create_student("resnet8", num_classes=7, in_channels=3, time_steps=2, neuron={"decay": 0.25})
    teacher = spikedistill.create_teacher("resnet8", num_classes=7, in_channels=3)
    assert student(torch.zeros(5, 3, 8, 8)).logits.shape == (2, 5, 7)
    assert student(torch.zeros(2, 5, 3, 8, 8)).logits.shape == (2, 5, 7)
    assert teacher(torch.zeros(5, 3, 8, 8)).logits.shape == (5, 7)
    neurons = [module for module in student.modules() if isinstance(module, spikedistill.LIF)]
    assert neurons and all(each.neuron == spikedistill.NeuronConfig(decay=0.25) for each in neurons)


def test_wrong_names_and_parameters_are_errors():
    with pytest.raises(ConfigError, match="unknown architecture 'resnet9'"):
        spikedistill.create_teacher("resnet9", num_classes=7, in_channels=3)
    with pytest.raises(ValueError, match="leak"):
        spikedistill.create_student("resnet8", num_classes=7, in_channels=3, time_steps=2, neuron={"leak": 0.5})


@pytest.mark.parametrize("name", ["num_classes", "in_channels", "time_steps"])
def test_networks_have_at_least_one_of_everything(name):
    counts = {"num_classes": 7, "in_channels": 3, "time_steps": 2} | {name: 0}
    with pytest.raises(ConfigError, match=f"{name} must be 1 or more; found 0"):
        spikedistill.create_student("resnet8", **counts)
