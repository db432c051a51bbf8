"""SpikingJelly's models as students: their own logits, the configured neurons, no state between passes, names without torch."""

import copy
import importlib
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from spikedistill import components
from spikedistill.errors import ConfigError
from spikedistill.models import build_student, build_teacher
from spikedistill.models.imported import spikingjelly_names
from spikedistill.models.imported.spikingjelly_parts import FAMILIES
from spikedistill.models.imported.weights import load_weights
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.blocks import checkpoint_blocks

ONE_OF_EACH_FAMILY = [
    "CIFAR10Net", "att_ms_resnet18", "masnn_dvs128_gesture", "max_resnet18", "maxformer_10_384", "maxformer_cifar",
    "qkformer_10_384", "sdt_8_384", "sew_resnet18", "spikformer_cifar10", "spiking_resnet18", "spiking_vgg11_bn",
]  # fmt: skip
LARGE = {"CIFAR10Net", "max_resnet18", "spiking_vgg11_bn"}
NEURON = NeuronConfig(decay=0.75, threshold=0.3, detach_reset=True, alpha=3.0)
BATCH, CHANNELS = 2, 3


def parameters(names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in names]


def student_of(name, *, channels=CHANNELS, config=NEURON):
    """A student of random weights and statistics in float64, with the number of time steps and classes that it takes."""
    entry = components.architecture(f"spikingjelly/{name}").entry
    torch.manual_seed(0)
    shape = {"num_classes": entry.get("classes", 7), "time_steps": entry.get("min_time_steps", 3)}
    student = build_student(f"spikingjelly/{name}", in_channels=channels, neuron=config, **shape)
    for module in student.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0.2, 0.1)
    return student.double(), torch.rand(shape["time_steps"], BATCH, channels, 32, 32, dtype=torch.float64)


def by_hand(name, student):
    """The same model as one builds it with SpikingJelly alone, with the same weights."""
    file = "masnn" if name.startswith("att_ms") else spikingjelly_names.models()[name]
    builder = getattr(importlib.import_module(f"spikingjelly.activation_based.model.{file}"), name)
    logits = student.network.model
    arguments = {"num_classes": 7, "T": student.time_steps, "cnf": "ADD", "in_channels": CHANNELS}
    wanted = {
        "sew_resnet": ("num_classes", "cnf"),
        "spiking_resnet": ("num_classes",),
        "spiking_vgg": ("num_classes",),
        "spikformer": ("num_classes", "T"),
        "parametric_lif_net": (),
    }.get(spikingjelly_names.models()[name], ("num_classes", "T", "in_channels"))
    node = neuron.LIFNode(
        tau=4.0,  # 1 / (1 - decay)
        decay_input=False,
        v_threshold=0.3,
        v_reset=0.0,
        surrogate_function=surrogate.Sigmoid(alpha=3.0),
        detach_reset=True,
        step_mode="m",
    )
    model = builder(spiking_neuron=lambda **_: copy.deepcopy(node), **{key: arguments[key] for key in wanted})
    functional.set_step_mode(model, "m")
    model.load_state_dict(logits.state_dict())
    return model.double().train(student.training)


@pytest.mark.slow
@pytest.mark.parametrize("name", parameters(ONE_OF_EACH_FAMILY))
def test_logits_and_gradients_are_those_of_the_model_run_by_hand(name):
    student, frames = student_of(name)
    expected_model = by_hand(name, student.eval())
    outputs, expected = student(frames), expected_model(frames)
    averages = expected.dim() == 2
    torch.testing.assert_close(outputs.logits.mean(0) if averages else outputs.logits, expected)
    assert outputs.logits.std() > 0 and outputs.logits[0].ne(outputs.logits[-1]).any(), "neurons fire"
    assert outputs.features.shape[:2] == frames.shape[:2] and outputs.features.dim() == 5

    student.train()
    for module in (*student.modules(), *expected_model.modules()):
        if isinstance(module, nn.modules.dropout._DropoutNd) or "Dropout" in type(module).__name__:
            module.p = 0.0
    functional.reset_net(expected_model.train())
    logits = student(frames).logits
    (logits.mean(0) if averages else logits).square().sum().backward()
    expected_model(frames).square().sum().backward()
    for (key, found), wanted in zip(student.network.model.named_parameters(), expected_model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, msg=lambda text, key=key: f"{key}: {text}")


def test_every_model_of_spikingjelly_belongs_to_a_family_that_is_tried():
    families = set(spikingjelly_names.models().values())
    assert families == set(FAMILIES)
    assert families == {spikingjelly_names.models()[name] for name in ONE_OF_EACH_FAMILY}
    assert {"sew_resnet50", "spiking_vgg11_bn", "spikformer_ti", "ms_resnet34"} <= set(components.zoo_names("spikingjelly"))


def test_names_and_entries_are_known_without_torch():
    program = (
        "import sys; from spikedistill import components\n"
        "print(components.architecture('spikingjelly/sew_resnet50').entry, {'torch', 'spikingjelly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'model': 'sew_resnet50', 'multi_step': True, 'features': True, 'cnf': 'ADD'} set()"


@pytest.mark.parametrize("name", ["sew_resnet18", "spikformer_cifar10"])
def test_a_still_image_is_shown_at_every_step_and_passes_do_not_see_each_other(name):
    student, frames = student_of(name)
    student.eval()
    images = frames[0]
    with torch.no_grad():
        first, shown, again = student(images), student(images.expand(student.time_steps, *images.shape)), student(images)
        alone = student(images[:1])
    assert torch.equal(first.logits, shown.logits) and torch.equal(first.logits, again.logits)
    torch.testing.assert_close(alone.logits, first.logits[:, :1])


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_vgg11_bn", "spikformer_cifar10", "maxformer_10_384", "NMNISTNet"])
def test_a_first_convolution_takes_the_channels_of_the_dataset(name):
    entry = components.architecture(f"spikingjelly/{name}").entry
    side = entry.get("size", 32)
    student = build_student(
        f"spikingjelly/{name}", num_classes=10, in_channels=1, time_steps=2, neuron=NeuronConfig(threshold=0.05)
    )
    student(torch.rand(2, 1, side, side)).logits.sum().backward()
    first = next(student.parameters())
    assert first.shape[1] == 1 and first.grad.abs().sum() > 0


@pytest.mark.parametrize("name", parameters(["sew_resnet18", "spiking_vgg11_bn", "qkformer_10_384"]))
def test_activation_checkpointing_changes_no_gradient(name):
    student, frames = student_of(name)
    gradients = []
    for checkpointed in (False, True):
        network = copy.deepcopy(student).train()
        if checkpointed:
            checkpoint_blocks(network)
        torch.manual_seed(1)
        network(frames).logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("neuron_name", ["plif", "alif", "ilif", "spikingjelly/QIFNode"])
def test_any_neuron_can_be_put_into_a_model(neuron_name):
    student, frames = student_of("sew_resnet18", config=NeuronConfig(name=neuron_name))
    with torch.no_grad():
        first, again = student.eval()(frames), student(frames)
    assert torch.equal(first.logits, again.logits)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_checkpoints_of_spikingjelly_fit_by_their_own_names(tmp_path, suffix):
    student, _ = student_of("sew_resnet18")
    other, _ = student_of("sew_resnet18")
    file = tmp_path / f"weights{suffix}"
    for parameter in student.parameters():
        nn.init.normal_(parameter)
    (torch.save if suffix == ".pth" else save_file)(student.network.model.state_dict(), file)
    assert load_weights(other.network, file).how == "by name"
    assert all(map(torch.equal, student.state_dict().values(), other.state_dict().values()))


def test_what_does_not_fit_a_model_is_refused_when_it_is_built():
    shape = {"in_channels": 3, "time_steps": 2, "neuron": NeuronConfig()}
    with pytest.raises(ConfigError, match="CIFAR10Net is for 10 classes; found 7"):
        build_student("spikingjelly/CIFAR10Net", num_classes=7, **shape)
    with pytest.raises(ConfigError, match="is an SNN that runs all time steps at once, for students"):
        build_teacher("spikingjelly/sew_resnet18", num_classes=7, in_channels=3)
    with pytest.raises(ConfigError, match=r"unknown spikingjelly model 'sew_resnet19'. Did you mean 'sew_resnet1"):
        build_student("spikingjelly/sew_resnet19", num_classes=7, **shape)
    with pytest.raises(ConfigError, match="learns online, one time step at a time"):
        build_student("spikingjelly/ottt_spiking_vgg11", num_classes=7, **shape)
