"""Any multi-step module as a student: without a tap, with neurons of its own that keep state, with those that it is given."""

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from spikedistill.errors import ConfigError
from spikedistill.models import Student
from spikedistill.models.imported.multi_step import MultiStepNetwork, MultiStepNeuron, as_network
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.blocks import checkpoint_blocks, compile_neurons, find_blocks

STEPS = 3


class Bare(nn.Module):
    """[T, B, 1, H, W] -> [T, B, 2], written without this package."""

    def __init__(self, spiking=None):
        super().__init__()
        self.block = nn.Sequential(
            layer.Conv2d(1, 2, 3, padding=1), layer.BatchNorm2d(2), spiking or neuron.LIFNode(v_threshold=0.2)
        )
        nn.init.constant_(self.block[0].weight, 0.1)

    def forward(self, x_seq):
        return self.block(x_seq).mean((3, 4))


def test_a_bare_module_is_a_student_whose_maps_are_its_logits():
    student = Student(as_network(Bare(), STEPS), STEPS).eval()
    frames = torch.rand(STEPS, 4, 1, 5, 5)
    with torch.no_grad():
        outputs = student(frames)
    assert outputs.logits.shape == (STEPS, 4, 2) and outputs.logits.std() > 0
    assert torch.equal(outputs.features[..., 0, 0], outputs.logits)


def test_state_of_a_modules_own_neurons_starts_anew_in_every_pass():
    student = Student(as_network(Bare(), STEPS), STEPS).eval()
    frames = torch.rand(STEPS, 4, 1, 5, 5)
    with torch.no_grad():
        first = student(frames).logits
        student(torch.rand(STEPS, 7, 1, 5, 5))  # another number of samples, too
        assert torch.equal(student(frames).logits, first)
        assert not torch.equal(student.network.model(frames), first), "without the reset, it goes on from where it was"


def test_checkpointing_is_refused_for_neurons_that_keep_state_only():
    with pytest.raises(
        ConfigError, match=r"engine.checkpoint_activations: blocks would run twice, and neurons of the network's own"
    ):
        checkpoint_blocks(Student(as_network(Bare(), STEPS), STEPS))
    given = MultiStepNeuron(LIF(NeuronConfig(), STEPS))
    checkpoint_blocks(Student(as_network(Bare(given), STEPS), STEPS))


def test_blocks_and_neurons_are_found_for_compilation():
    student = Student(as_network(Bare(MultiStepNeuron(LIF(NeuronConfig(), STEPS))), STEPS), STEPS)
    compile_neurons(student)
    assert student.network.model.block[2].neuron.compiled
    assert find_blocks(student)


def test_a_module_that_is_taken_apart_needs_both_parts():
    with pytest.raises(AssertionError):
        MultiStepNetwork(Bare(), STEPS, features=lambda model, frames: frames)


def test_the_number_of_frames_must_be_that_of_the_student():
    student = Student(as_network(Bare(), STEPS), STEPS)
    with pytest.raises(ValueError, match="4 frames for a network of 3 time steps"):
        student(torch.rand(4, 2, 1, 5, 5))
