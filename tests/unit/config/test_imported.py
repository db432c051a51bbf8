"""Teachers and students from elsewhere in a configuration: what is refused, and what the message says to do."""

import copy

import pytest
import torch

from spikedistill.config.check import parse_config
from spikedistill.config.networks.imported import class_indices, fault_of_weights
from spikedistill.errors import ConfigError

TRAIN = {"epochs": 1, "batch_size": 64}
NAMES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save({"weight": torch.zeros(2)}, file)
    return str(file)


def config(teacher=None, dataset=None, student=None, methods=None):
    experiment = {
        "dataset": {"name": "digits"} | (dataset or {}),
        "teacher": {"arch": "resnet8", "train": TRAIN} | (teacher or {}),
        "student": {"arch": "resnet8", "time_steps": 4, "train": TRAIN} | (student or {}),
        "methods": methods or {"kd": {}},
    }
    for section in ("teacher", "student"):
        experiment[section] = {key: value for key, value in experiment[section].items() if value is not None}
    return {"experiments": {"one": copy.deepcopy(experiment)}}


def refused(values):
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    return str(caught.value)


EVENTS = {"name": "digits-dvs", "params": {"num_frames": 4}}


def test_valid_ones(weights):
    parse_config(config({"arch": "torchvision/resnet18", "weights": weights, "train": None}))
    parse_config(config({"arch": "timm/resnet10t", "weights": weights, "inputs": {"size": 32, "normalize": "dataset"}}))
    parse_config(config({"weights": weights, "train": None, "classes": [[0, 10], *range(1, 10)]}))
    parse_config(config({"arch": "torchvision/resnet18", "weights": weights, "inputs": {"events": "grey"}}, EVENTS))
    parse_config(config({"arch": "torchvision/resnet18"}, EVENTS))  # trained on 2 channels
    parse_config(config(student={"train": None}, methods={"kd": {"weights": weights}}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"teacher": {"train": None}}, "one.teacher.train: is required and not given; only a teacher that has `weights`"),
        ({"teacher": {"classes": [1] * 10}}, "one.teacher.classes: is about the classes of a checkpoint, and no `weights`"),
        ({"teacher": {"weights": "none.pth"}}, "one.teacher.weights: none.pth: No such file"),
        ({"teacher": {"arch": "torchvision/resnet18", "width": 2}}, "one.teacher.width: is for architectures of spikedistill"),
        ({"teacher": {"arch": "torchvision/resnet81"}}, "one.teacher.arch: unknown torchvision model 'resnet81'. Did you mean"),
        ({"teacher": {"arch": "tochvision/resnet18"}}, "one.teacher.arch: unknown architecture 'tochvision/resnet18'"),
        ({"student": {"arch": "torchvision/resnet18"}}, "one.student.arch: 'torchvision/resnet18' is an ANN of torchvision"),
        ({"student": {"train": None}}, "one.student.train: is required and not given: method 'kd' has no `weights`"),
        ({"methods": {"kd": {"weights": "/nowhere.pth"}}}, "one.methods.kd.weights: /nowhere.pth: No such file"),
        ({"teacher": {"inputs": {"mean": [0.5]}}}, "mean and std belong together"),
        ({"teacher": {"inputs": {"normalize": "imagenet"}}}, "inputs.channels: mean and std are for 3 channels, and the teacher"),
        ({"teacher": {"inputs": {"mean": [], "std": []}}}, "one.teacher.inputs.mean"),
        ({"teacher": {"inputs": {"events": "grey"}}}, "inputs.events: is for event frames; the dataset has images"),
        ({"teacher": {"inputs": {"normalise": "imagenet"}}}, "unknown key 'normalise'. Did you mean 'normalize'?"),
        (
            {"dataset": EVENTS, "teacher": {"inputs": {"channels": 3}}},
            "inputs.events: event frames have 2 channels, and the teacher",
        ),
        ({"dataset": EVENTS, "teacher": {"inputs": {"normalize": "imagenet"}}}, "inputs.normalize: is for images; event frames"),
    ],
)
def test_what_is_refused(values, said):
    assert said in refused(config(**values))


def test_a_model_for_images_says_how_it_can_take_event_frames(weights):
    assert "with events: grey they become grey images" in refused(
        config({"arch": "torchvision/resnet18", "weights": weights}, EVENTS)
    )


def test_what_the_weights_of_a_library_were_normalised_by_is_not_for_one_channel(weights):
    teacher = {"arch": "torchvision/resnet18", "weights": weights, "train": None}
    said = refused(config(teacher | {"inputs": {"channels": 1}}))
    assert "teacher.inputs.channels: mean and standard deviation of 3 channels for a teacher that takes 1" in said
    for inputs in ({"channels": 1, "normalize": "dataset"}, {"channels": 1, "mean": [0.5], "std": [0.5]}):
        parse_config(config(teacher | {"inputs": inputs}))


@pytest.mark.parametrize("arch", ["torchvision/vit_b_16", "torchvision/vgg11", "timm/convnext_atto"])
def test_methods_that_compare_maps_refuse_teachers_without_them_and_logit_methods_do_not(arch, weights):
    teacher = {"arch": arch, "weights": weights, "train": None}
    said = refused(config(teacher, methods={"ckdsnn": {}, "kd": {}}))
    assert "methods.ckdsnn: needs a teacher that classifies by one linear layer on pooled features" in said
    assert "methods.kd" not in said
    parse_config(config({"arch": "torchvision/resnet18", "weights": weights, "train": None}, methods={"ckdsnn": {}}))


def test_methods_that_compare_maps_need_one_output_for_each_class(weights):
    teacher = {"weights": weights, "train": None, "classes": [[0, 10], *range(1, 10)]}
    assert "needs a teacher with one output for each class" in refused(config(teacher, methods={"ckdsnn": {}}))


def test_classes_by_order_and_by_name():
    assert class_indices([5, [1, 2], 0], NAMES) == ((5,), (1, 2), (0,))
    assert class_indices({"bird": 0, "cat": 5, "dog": [1, 2]}, NAMES) == ((5,), (1, 2), (0,))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([1, 2], "for each of the 3 classes of the dataset; found 2"),
        ([1, 2, -1], "from 0"),
        ([1, [], 2], "at least one index for each class"),
        ([1, [2, 1], 3], "found twice: 1"),
        ({"cat": 1, "dog": 2, "brid": 3}, "unknown class of the dataset 'brid'. Did you mean 'bird'?"),
        ({"cat": 1, "dog": 2}, "missing: bird"),
    ],
)
def test_classes_that_fit_no_dataset(classes, said):
    with pytest.raises(ConfigError) as caught:
        class_indices(classes, NAMES)
    assert said in str(caught.value)


def test_a_file_that_cannot_be_a_checkpoint_is_told_before_anything_runs(tmp_path, weights):
    (tmp_path / "page.pth").write_text("<html>404</html>")
    (tmp_path / "page.safetensors").write_text("<html>404</html>")
    assert "neither safetensors nor written by torch.save" in fault_of_weights(str(tmp_path / "page.pth"))
    assert "neither safetensors nor written by torch.save" in fault_of_weights(str(tmp_path / "page.safetensors"))
    assert "is a folder" in fault_of_weights(str(tmp_path))
    assert "embedded null" in fault_of_weights("a\0b.pth")
    assert fault_of_weights(weights) is None
