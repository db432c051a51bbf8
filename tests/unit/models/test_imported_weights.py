"""Reading checkpoint files, and fitting them to networks."""

import argparse
import hashlib
import os
import pickle
import random

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spikedistill.errors import ConfigError
from spikedistill.models import build_teacher
from spikedistill.models.imported.checkpoint import read_checkpoint
from spikedistill.models.imported.layouts import parts
from spikedistill.models.imported.matching import find_match
from spikedistill.models.imported.weights import load_weights


class Runs:
    """An object whose unpickling runs a command."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def network(classes=5, channels=1, arch="resnet8"):
    torch.manual_seed(len(arch))
    return build_teacher(arch, num_classes=classes, in_channels=channels).network


def random_state(like):
    torch.manual_seed(3)
    return {name: torch.rand_like(tensor) if tensor.is_floating_point() else tensor for name, tensor in like.state_dict().items()}


def renamed(state):
    """Names of another library: in the same order, of the same kinds."""
    return {f"layer{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(state.items())}


def saved(content, folder, name="weights.pth"):
    save_file(content, folder / name) if name.endswith(".safetensors") else torch.save(content, folder / name)
    return folder / name


def equal(network, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items() if "num_batches" not in name)


@pytest.mark.parametrize("wrap", [dict, lambda state: {"epoch": 3, "model": {"state_dict": state}}, lambda state: {"net": state}])
@pytest.mark.parametrize("prefix", ["", "module.", "network.", "module.model."])
def test_weights_are_found_by_name_wherever_they_are(tmp_path, wrap, prefix):
    ours = network()
    state = random_state(ours)
    found = load_weights(ours, saved(wrap({f"{prefix}{name}": tensor for name, tensor in state.items()}), tmp_path))
    assert found.how == "by name"
    assert equal(ours, state)


def test_safetensors_are_read_by_name_whatever_their_order(tmp_path):
    ours = network()
    state = random_state(ours)
    load_weights(ours, saved(state, tmp_path, "weights.safetensors"))
    assert equal(ours, state)


def test_other_names_fit_by_order_without_the_counters_of_batches(tmp_path):
    ours = network()
    state = random_state(ours)
    others = {name: tensor for name, tensor in renamed(state).items() if not name.endswith("num_batches_tracked")}
    assert load_weights(ours, saved(others, tmp_path)).how == "by order"
    assert equal(ours, state)


def test_names_decide_before_the_order_does(tmp_path):
    ours = network()
    state = random_state(ours)
    load_weights(ours, saved(dict(reversed(state.items())), tmp_path))
    assert equal(ours, state)


def test_order_is_not_trusted_where_the_kinds_differ(tmp_path):
    """Mean and variance of a norm have the same shape: exchanged, they would load without a word."""
    ours = network()
    state = list(renamed(random_state(ours)).items())
    at = next(i for i, (name, _) in enumerate(state) if name.endswith("running_mean"))
    state[at], state[at + 1] = state[at + 1], state[at]
    with pytest.raises(
        ConfigError, match=r"tensor 4 is layer4.running_var \(16,\), where the network has after_stem.0.running_mean"
    ):
        load_weights(ours, saved(dict(state), tmp_path))


def test_order_is_not_trusted_in_safetensors_which_do_not_keep_it(tmp_path):
    ours = network()
    with pytest.raises(ConfigError, match="does not keep the order of tensors"):
        load_weights(ours, saved(renamed(random_state(ours)), tmp_path, "weights.safetensors"))


def test_another_network_is_refused_with_the_first_difference(tmp_path):
    file = saved(random_state(network(channels=3)), tmp_path)
    with pytest.raises(
        ConfigError, match=r"weights.pth: .*tensor 1 is stem.weight \(16, 3, 3, 3\).*network has stem.weight \(16, 1"
    ):
        load_weights(network(channels=1), file)
    with pytest.raises(ConfigError, match=r"does not fit the network.*Choose the arch"):
        load_weights(network(arch="resnet20_ckd_teacher"), file)


def test_two_parts_that_fit_are_not_chosen_between(tmp_path):
    ours = network()
    one, two = random_state(ours), {name: tensor + 1 for name, tensor in random_state(ours).items()}
    with pytest.raises(ConfigError, match="2 parts of it fit the network: 'model', 'model_ema'"):
        load_weights(ours, saved({"model": one, "model_ema": two}, tmp_path))


def test_a_classifier_of_other_classes_says_what_to_do(tmp_path):
    file = saved(random_state(network(classes=7)), tmp_path)
    with pytest.raises(ConfigError, match=r"has 7 classes, and the dataset has 5.*`train:`.*`classes:`"):
        load_weights(network(), file)


def test_fine_tuning_starts_with_a_new_classifier_of_other_classes_and_keeps_the_rest(tmp_path):
    state, ours = random_state(network(classes=7)), network()
    before = ours.classifier.weight.clone()
    assert load_weights(ours, saved(state, tmp_path), fine_tune=True).fresh == ("classifier.weight", "classifier.bias")
    assert torch.equal(ours.classifier.weight, before)
    assert torch.equal(ours.stem.weight, state["stem.weight"])


def test_chosen_rows_of_the_classifier(tmp_path):
    state, ours = random_state(network(classes=7)), network(classes=3)
    load_weights(ours, saved(state, tmp_path), rows=[6, 0, 2])
    assert torch.equal(ours.classifier.weight, state["classifier.weight"][[6, 0, 2]])
    assert torch.equal(ours.classifier.bias, state["classifier.bias"][[6, 0, 2]])
    with pytest.raises(ConfigError, match="has 7 classes, 0 to 6, and `classes` names class 7"):
        load_weights(ours, tmp_path / "weights.pth", rows=[7, 0, 2])


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = random_state(network())
    state["stem.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"stem.weight has values that are not finite"):
        load_weights(network(), saved(state, tmp_path))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    content = {"state_dict": random_state(network()), "model": Runs(tmp_path / "ran")}
    with pytest.raises(ConfigError, match="loading such objects can run code, so it is refused") as caught:
        read_checkpoint(saved(content, tmp_path))
    assert "weights.pth" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_torch_did_not_write_is_refused_and_not_run(tmp_path):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(ConfigError):
        read_checkpoint(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


def test_options_of_a_training_script_do_not_prevent_reading(tmp_path):
    content = {"state_dict": random_state(network()), "args": argparse.Namespace(lr=0.1)}
    assert read_checkpoint(saved(content, tmp_path))["args"].lr == 0.1


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_files_that_are_no_checkpoints_are_told_apart_from_bugs(tmp_path, name, damage):
    file = saved(random_state(network()), tmp_path, name)
    content = file.read_bytes()
    file.write_bytes({"text": b"hello\n", "cut": content[: len(content) // 2], "empty": b""}[damage])
    with pytest.raises(ConfigError, match=f"{name}: not a checkpoint, or damaged"):
        load_weights(network(), file)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def mutated(content, generator):
    """Change some bytes, cut a piece out, or write one piece over another."""
    size = len(content)
    first, second = sorted(generator.sample(range(size), 2))
    kind = generator.randrange(3)
    if kind == 0:
        changed = bytearray(content)
        for place in generator.sample(range(size), generator.randint(1, 4)):
            changed[place] = generator.randrange(256)
        return bytes(changed)
    if kind == 1:
        return content[:first] + content[min(second, first + 20) :]
    return content[:second] + content[first : first + 10] + content[second + 10 :]


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "old.pth"])
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_in_a_checkpoint_is_an_error_that_names_it_or_does_not_matter(tmp_path, name):
    """The bytes of the pickle are changed alone, too, in the format without a zip file around it."""
    file, generator = tmp_path / name, random.Random(0)
    saved(small().state_dict(), tmp_path, name)
    if name == "old.pth":
        torch.save(small().state_dict(), file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    refused = 0
    for _ in range(300):
        file.write_bytes(mutated(content, generator))
        try:
            load_weights(small(), file)
        except ConfigError as err:
            refused += 1
            assert str(err).startswith(str(file))
    assert refused > 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensor: tensor.to_sparse(), "does not fit the network"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "does not fit the network"),
        (lambda tensor: tensor.to("meta"), "does not fit the network"),
        (lambda tensor: tensor.to(torch.complex64), "0.weight is of torch.complex64, and the network takes real numbers"),
        (lambda tensor: torch.empty(tensor.shape, dtype=torch.bits8), "0.weight is of torch.bits8"),
    ],
    ids=["sparse", "quantised", "without values", "complex", "bits"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_weights_are_refused(tmp_path, change, said):
    state = small().state_dict()
    with pytest.raises(ConfigError, match=said):
        load_weights(small(), saved(state | {"0.weight": change(state["0.weight"])}, tmp_path))
    everything = {name: change(tensor) for name, tensor in state.items() if tensor.is_floating_point()}
    with pytest.raises(ConfigError):
        load_weights(small(), saved(everything, tmp_path))


def test_a_file_that_is_exchanged_after_its_checksum_was_taken_is_refused(tmp_path):
    file = saved(random_state(network()), tmp_path)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    load_weights(network(), file, sha256=checksum)
    saved({name: tensor + 1 for name, tensor in random_state(network()).items()}, tmp_path)
    with pytest.raises(ConfigError, match="was changed while this stage started"):
        load_weights(network(), file, sha256=checksum)


def test_a_missing_file_and_a_file_without_tensors(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_weights(network(), tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="holds no tensors"):
        load_weights(network(), saved({"epoch": 3}, tmp_path))


def test_optimizers_and_the_like_are_no_weights():
    state = {"weight": torch.zeros(2, 2)}
    content = {"optimizer": {"state": state}, "lr_scheduler": state, "net": state}
    assert [place for place, _ in parts(content)] == ["net"]
    assert find_match(state, parts(content), final=()).place == "net"
