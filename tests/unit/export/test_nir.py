"""A student as NIR: read back, it fires the same spikes; layers that NIR cannot express are refused by name."""

from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import neuron, nir_exchange
from torch import nn

from spikedistill.data.store import open_store
from spikedistill.errors import ConfigError
from spikedistill.export.folder import write_export
from spikedistill.export.nir import TIME_STEP_S, example_frames
from spikedistill.export.nir_graph import to_spikingjelly
from spikedistill.models import build_student
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.stages.network_io import load_network, read_model_spec


def spikes_of(layers, run):
    """Return the result of `run` and the outputs of some layers in the order in which they run."""
    seen = []
    for layer in layers:
        layer.register_forward_hook(lambda m, x, out: seen.append(out))
    return run(), seen


def test_exported_and_read_back_it_fires_the_same_spikes_and_has_the_same_test_accuracy(trained, tmp_path):
    folder = trained.store.open(trained.student)
    spec = read_model_spec(folder)
    data = open_store(trained.store.open(spec.data))
    write_export(trained.store, trained.student, tmp_path / "out", nir=True)
    frames = example_frames(data, spec.inputs, spec.time_steps, count=360)
    labels = torch.from_numpy(data.labels[data.split("test")])

    student = load_network(spec, data, folder)
    published = (student(frames.float()).prediction.argmax(-1) == labels).double().mean()
    student.double()
    logits, own = spikes_of([m for m in student.modules() if isinstance(m, LIF)], lambda: student(frames).logits)
    read_back = nir_exchange.import_from_nir(
        tmp_path / "out" / "model.nir", dt=TIME_STEP_S, dtype=torch.float64, step_mode="m"
    ).eval()
    neurons = [m for m in read_back.modules() if isinstance(getattr(m, "module", None), neuron.LIFNode)]
    (again, _), outputs = spikes_of(neurons, lambda: read_back(frames))
    others = [spikes for spikes, _ in outputs]

    assert len(own) == len(others) == 7
    matched = [next(other for other in others if other.flatten(0, 1).equal(spikes)) for spikes in own]
    assert len({id(each) for each in matched}) == 7
    assert 0 < own[-1].mean() < 1
    torch.testing.assert_close(again, logits, rtol=0, atol=1e-12)
    assert (again.mean(0).argmax(-1) == labels).double().mean() == published
    assert "import_from_nir" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("neuron_config", "backward"), [({"name": "plif"}, "bptt"), ({}, "rate")], ids=["learnt decay", "rate"])
def test_students_of_other_neurons_and_gradients_become_the_same_network(neuron_config, backward):
    torch.manual_seed(0)
    config = NeuronConfig(**neuron_config, threshold=0.3)
    student = build_student("resnet8", num_classes=10, in_channels=2, time_steps=3, neuron=config, backward=backward).double()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith(".w"):
                parameter.uniform_(-1.0, 1.0)  # another decay in each layer
    student.eval().requires_grad_(False)
    frames = 2 * torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
    logits = student(frames).logits
    assert logits.std() > 0.01
    torch.testing.assert_close(to_spikingjelly(student, frames[0, :1])(frames), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["sew_resnet18", "preact_resnet18", "resnet19"])
def test_residual_families_become_the_same_network_of_spikingjelly(name):
    torch.manual_seed(0)
    neuron_config = NeuronConfig(threshold=0.3, decay=0.2)
    student = build_student(name, num_classes=10, in_channels=2, time_steps=3, neuron=neuron_config).double()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    student.eval().requires_grad_(False)
    frames = 2 * torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
    logits = student(frames).logits
    assert logits.std() > 0.01
    torch.testing.assert_close(to_spikingjelly(student, frames[0, :1])(frames), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arch", "neuron_config", "message"),
    [
        ("resnet8", {"reset": "soft"}, r"cannot express layer 'after_stem.1': a neuron with soft reset"),
        (
            "resnet8",
            {"spike_at_threshold": False},
            r"cannot express layer 'after_stem.1': a neuron that fires only above its threshold",
        ),
        ("resnet8", {"name": "ilif"}, r"cannot express layer 'after_stem.1': a neuron 'ilif', which is no LIF neuron"),
        ("resnet8", {"decay": 0.0}, r"cannot express layer 'after_stem.1': a neuron without memory"),
        ("resnet18_imagenet", {}, r"cannot express layer 'after_stem.2': MaxPool2d"),
        ("resnet20_ckd", {}, r"cannot express layer 'stages.2.2.activation': ReLU"),
    ],
)
def test_layer_that_nir_cannot_express_is_refused_by_name(arch, neuron_config, message):
    neuron_config = NeuronConfig(**neuron_config)
    student = build_student(arch, num_classes=10, in_channels=1, time_steps=2, neuron=neuron_config).eval()
    with pytest.raises(ConfigError, match=message):
        to_spikingjelly(student, torch.zeros(1, 1, 32, 32))


def test_a_teacher_is_refused_and_leaves_no_folder(trained, tmp_path):
    with pytest.raises(ConfigError, match="only a student can be written as NIR"):
        write_export(trained.store, trained.teacher, tmp_path / "out", nir=True)
    assert list(Path(tmp_path).iterdir()) == []
