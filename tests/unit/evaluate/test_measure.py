"""Measurements on networks, against golden data and hand-computed values."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError, EvaluationError
from spikedistill.evaluate.accuracy import Scores, calibration_error
from spikedistill.evaluate.batches import batch_size
from spikedistill.evaluate.layers import find_layers
from spikedistill.evaluate.measure import measure
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.models import ModelOutput, Teacher, build_teacher, torchvision_zoo
from spikedistill.models.imported.inputs import Conversion, InputAdapter
from spikedistill.models.imported.zoo_network import ZooNetwork
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = json.loads((GOLDEN / "baseline_ce.json").read_text())["cases"]


class Recall(nn.Module):
    """A network that returns given logits: the value of a sample's only pixel is its index."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return ModelOutput(self.logits[..., (x.flatten() * 255).round().long(), :], x)


def store_of(labels, num_classes):
    labels = np.asarray(labels, dtype=np.int64)
    samples = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    names = tuple(f"class {k}" for k in range(num_classes))
    return SampleStore("images", samples, labels, {"test": np.arange(len(labels))}, names, (0.0,), (1.0,))


def figures(model, store, *, batch_size=2, teacher=None, energy=None):
    loader = Loader(store, "test", batch_size=batch_size)
    energy = energy or EnergyConfig()
    result = measure(model, loader, World(), num_classes=store.num_classes, energy=energy, teacher=teacher).metrics
    del result["timing"]
    return result


def evaluate_logits(logits, labels, *, batch_size=2):
    logits = torch.as_tensor(logits, dtype=torch.float64)
    store = store_of(labels, logits.shape[-1])
    return figures(Recall(logits), store, batch_size=batch_size)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_matches_golden_accuracies_and_loss(case):
    expected = case["expected"]
    result = evaluate_logits(case["inputs"]["student_logits"], case["inputs"]["labels"])
    assert result["accuracy"] == pytest.approx(expected["accuracy_top1_mean_logits"])
    assert result["accuracy_of_step"] == pytest.approx(expected["accuracy_per_timestep"])
    assert result["nll"] == pytest.approx(expected["ce_mean_logits"], abs=1e-9)


def test_accuracy_at_a_step_uses_the_mean_of_the_logits_so_far():
    # One sample of class 0: right at step 1, wrong at step 2, and their mean is wrong.
    result = evaluate_logits([[[1.0, 0.0]], [[0.0, 3.0]], [[3.0, 0.0]]], [0])
    assert result["accuracy_at_step"] == [1.0, 0.0, 1.0]
    assert result["accuracy_of_step"] == [1.0, 0.0, 1.0]
    result = evaluate_logits([[[5.0, 0.0]], [[0.0, 3.0]]], [0])
    assert result["accuracy_at_step"] == [1.0, 1.0]
    assert result["accuracy_of_step"] == [1.0, 0.0]


def test_accuracies_over_time_are_over_all_samples():
    # of class 0; the first sample is right at both steps, the second at step 2 and in the mean of both, the others never
    right, late, wrong = [2.0, 0.0], [0.0, 1.0], [0.0, 2.0]
    result = evaluate_logits([[right, late, wrong, wrong], [right, right, wrong, wrong]], [0, 0, 0, 0])
    assert result["accuracy_at_step"] == [0.25, 0.5]
    assert result["accuracy_of_step"] == [0.25, 0.5]
    assert result["accuracy"] == 0.5


def test_confusion_counts_true_class_by_row():
    result = evaluate_logits([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0], [0, 3.0, 0]], [0, 0, 2, 1])
    assert result["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["accuracy"] == 0.75
    assert result["num_samples"] == 4


def test_top5_counts_the_five_largest():
    logits = torch.arange(7.0).expand(2, 7)
    assert evaluate_logits(logits, [2, 1])["top5"] == 0.5
    assert evaluate_logits(logits, [6, 5])["accuracy"] == 0.5


def test_top5_of_few_classes_is_one():
    assert evaluate_logits([[0.0, 1.0]], [0])["top5"] == 1.0


def test_batch_size_does_not_change_the_result():
    logits = torch.randn(3, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 3, 0, 1, 2]
    assert evaluate_logits(logits, labels, batch_size=1) == evaluate_logits(logits, labels, batch_size=100)


def test_teacher_has_no_figures_over_time():
    result = evaluate_logits([[0.0, 1.0]], [1])
    assert not {"accuracy_at_step", "accuracy_of_step", "firing_rate"} & set(result)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    logits = np.zeros((2, 3, 4))
    evaluate_logits(logits, [0, 1, 2])
    logits[1, 2, 3] = value
    with pytest.raises(EvaluationError, match=r"the logits of the test split are not finite: .*train\.clip_grad_norm"):
        evaluate_logits(logits, [0, 1, 2])


def test_more_ranks_than_samples_is_refused():
    store = store_of([0], 2)
    loader = Loader(store, "test", batch_size=2)
    with pytest.raises(ConfigError, match="1 batches of the test split cannot be shared by 2 ranks"):
        measure(Recall(torch.zeros(1, 2)), loader, World(0, 2), num_classes=2, energy=EnergyConfig())


@pytest.mark.parametrize(("rank", "expected"), [(0, [(0, [0, 1]), (4, [0])]), (1, [(2, [2, 1])])])
def test_every_rank_scores_its_own_batches_in_their_places(rank, expected, monkeypatch):
    seen, add = [], Scores.add
    monkeypatch.setattr(Scores, "add", lambda self, start, z, y, t: seen.append((start, y.tolist())) or add(self, start, z, y, t))
    monkeypatch.setattr(World, "all_reduce_sum", lambda self, value: value)
    loader = Loader(store_of([0, 1, 2, 1, 0], 3), "test", batch_size=2, rank=rank, world_size=2)
    measure(Recall(torch.zeros(5, 3)), loader, World(rank, 2), num_classes=3, energy=EnergyConfig())
    assert seen == expected


class Frames(nn.Module):
    """A network for event frames that keeps the shapes of its inputs."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return ModelOutput(torch.zeros(*x.shape[:2], 2), x)


def test_latency_is_that_of_all_frames_of_one_sample_and_throughput_counts_samples():
    samples = np.zeros((4, 3, 2, 5, 5), dtype=np.uint8)  # three frames each
    store = SampleStore("frames", samples, np.zeros(4, dtype=np.int64), {"test": np.arange(4)}, ("a", "b"), None, None)
    model = Frames()
    timing = measure(model, Loader(store, "test", batch_size=4), World(), num_classes=2, energy=EnergyConfig()).metrics["timing"]
    assert timing["throughput_batch"] == 4
    assert set(model.shapes) == {(3, 4, 2, 5, 5), (3, 1, 2, 5, 5)}


def test_throughput_is_that_of_a_whole_batch_however_few_samples_the_last_one_has():
    loader = Loader(store_of([0, 1, 2, 1, 0], 3), "test", batch_size=2)
    timing = measure(Recall(torch.zeros(5, 3)), loader, World(), num_classes=3, energy=EnergyConfig()).metrics["timing"]
    assert timing["throughput_batch"] == 2


class TwoLayers(nn.Module):
    """A layer of 2 neurons with constant input current, then a layer of 1 neuron that never fires."""

    def __init__(self):
        super().__init__()
        self.first = LIF(NeuronConfig(), time_steps=3)
        self.second = LIF(NeuronConfig(), time_steps=3)

    def forward(self, x):
        batch = len(x)
        spikes = self.first(torch.tensor([1.0, 0.6]).repeat(3 * batch, 1))
        self.second(torch.zeros(3 * batch, 1))
        return ModelOutput(spikes.unflatten(0, (3, batch)), x)


def test_firing_rates_by_layer_and_step_with_dead_and_saturated_neurons():
    # 1.0 fires at every step; 0.6 charges to 0.6, 0.9, 1.05 and fires at the third.
    result = figures(TwoLayers(), store_of([0, 0, 1, 1, 0], 2))
    first, second = result["firing_rate"]["layers"]
    assert first == {
        "name": "lif1",
        "rate": pytest.approx(4 / 6),
        "rate_per_step": [0.5, 0.5, 1.0],
        "neurons": 2,
        "dead": 0,
        "saturated": 1,
    }
    assert second["rate_per_step"] == [0.0, 0.0, 0.0]
    assert (second["neurons"], second["dead"], second["saturated"]) == (1, 1, 0)
    assert result["firing_rate"]["mean"] == pytest.approx(4 / 9)
    assert result["activation_sparsity"] == pytest.approx(5 / 9)


def test_membrane_updates_count_changes_of_the_potential_and_the_first_step():
    # Potentials after a step: 0, 0, 0 for the neuron that always fires; 0.6, 0.9, 0 for the second; 0, 0, 0 for the dead one.
    result = figures(TwoLayers(), store_of([0, 0, 1, 1, 0], 2))
    assert result["membrane_updates"] == 3 + 2


def test_hooks_are_removed_afterwards():
    model = TwoLayers()
    figures(model, store_of([0, 1], 2))
    assert not any(module._forward_hooks for module in model.modules())


def test_agreement_is_the_share_of_equal_predictions():
    store = store_of([0, 0, 1, 1], 2)
    student = torch.tensor([[[2.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]])
    teacher = torch.tensor([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    assert figures(Recall(student), store, teacher=Recall(teacher))["teacher_agreement"] == 0.75
    assert "teacher_agreement" not in figures(Recall(student), store)


def test_calibration_error_against_a_hand_calculation():
    # 15 bins: 0.65 and 0.66 share one (9/15 to 10/15), 0.9 has its own (13/15 to 14/15), and an edge belongs to the bin below.
    confidence = torch.tensor([0.65, 0.66, 0.90, 0.60], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True])
    expected = (abs(0.65 + 0.66 - 1) + abs(0.90 - 1) + abs(0.60 - 1)) / 4
    assert calibration_error(confidence, correct) == pytest.approx(expected)


def test_calibration_has_fifteen_bins_of_the_confidence_in_the_prediction():
    # 0.62 and 0.68 lie in bins of their own, of width 1/15, and would share one of width 1/10
    assert calibration_error(torch.tensor([0.62, 0.68]).double(), torch.tensor([True, False])) == pytest.approx(0.53)
    # three to one for class 0, and class 1 is right
    assert evaluate_logits([[np.log(3.0), 0.0]], [1])["ece"] == pytest.approx(0.75)


def test_batches_depend_on_the_split_alone_and_are_shared_by_a_few_ranks():
    assert [batch_size(n) for n in (1, 37, 360, 10_000)] == [1, 2, 22, 256]


def vision_transformer():
    """A teacher of torchvision's class: 3x3 patches of 4x4 pixels and a class token, 2 layers, 2 heads, width 8, MLP 12."""
    family = torchvision_zoo._FAMILIES["vision_transformer"]
    model = VisionTransformer(12, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)
    network = ZooNetwork(model, features=family.features, head=family.head, final_layers=["heads.head"], plain_classifier=False)
    return Teacher(network, adapter=InputAdapter(Conversion(channels=3)))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_of_a_teacher_equals_a_count_by_hand(fused):
    """Its layers call their linear layers as functions, or not at all where torch has a kernel for all of a layer."""
    store = SampleStore(
        "images",
        np.zeros((6, 1, 12, 12), np.uint8),
        np.zeros(6, np.int64),
        {"test": np.arange(6)},
        ("a", "b", "c"),
        (0.5,),
        (1.0,),
    )
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fused)
    try:
        result = figures(vision_transformer(), store, energy=EnergyConfig(pj_per_mac=5.0, pj_per_ac=2.0))["operations"]
        assert torch.backends.mha.get_fastpath_enabled() == fused
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    tokens, width = 9 + 1, 8
    patches, head = 9 * width * 3 * 4 * 4, width * 3
    mlp = 2 * tokens * width * 12
    projections, attention = tokens * width * 4 * width, 2 * tokens * tokens * width  # q, k, v, out; q k^T and its product with v
    assert result["macs"] == patches + 2 * (projections + attention + mlp) + head
    other = result["layers"][-1]
    assert other["name"] == "other products"
    assert other["macs"] == other["dense"] == other["effective_macs"] == 2 * (projections + attention)
    assert result["energy_pj"] == result["estimate"]["energy_pj"] == 5.0 * result["macs"]
    assert sum(layer["energy_pj"] for layer in result["layers"]) == result["energy_pj"]


@pytest.mark.parametrize("arch", ["resnet8", "vgg13", "torchvision/resnet18", "torchvision/mobilenet_v3_small"])
def test_a_teacher_without_other_products_has_no_entry_for_them(arch):
    samples = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    store = SampleStore("images", samples, np.zeros(4, np.int64), {"test": np.arange(4)}, ("a", "b"), (0.5,) * 3, (1.0,) * 3)
    teacher = build_teacher(arch, num_classes=2, in_channels=3)
    layers = figures(teacher, store)["operations"]["layers"]
    convolutions = [module for module in teacher.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == len(convolutions)
    assert "other products" not in [layer["name"] for layer in layers]


class Oddly(torch.nn.Module):
    """Layers under names that look like those of this package's networks."""

    def __init__(self):
        super().__init__()
        self.stages = torch.nn.ModuleDict({"early": torch.nn.Conv2d(1, 1, 1), "late": torch.nn.Sequential(torch.nn.Linear(1, 1))})


def test_layers_of_a_network_of_another_layout_have_the_names_of_their_places():
    assert list(find_layers(Oddly(), "conv", "linear")) == ["stages.conv", "stages.late.linear"]
