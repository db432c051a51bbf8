"""Models of torchvision and timm as teachers: their own logits, features that fit the classifier, names without torch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from spikedistill import components
from spikedistill.errors import ConfigError
from spikedistill.models import build_student, build_teacher, timm_zoo, torchvision_zoo
from spikedistill.models.imported.weights import load_weights
from spikedistill.neurons.settings import NeuronConfig

CLASSES = 7
TORCHVISION = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5",
    "squeezenet1_1", "swin_t", "vgg11", "vit_b_16",
]  # fmt: skip
"""One of each family."""
TIMM = [
    "cspresnet50", "densenet121", "efficientnet_lite0", "hrnet_w18_small", "inception_resnet_v2", "inception_v3",
    "inception_v4", "nasnetalarge", "nf_regnet_b0", "pnasnet5large", "regnetx_002", "res2net50_14w_8s", "resnest14d",
    "resnet10t", "rexnet_100", "selecsls42", "legacy_seresnet18", "skresnet18", "tresnet_m", "ese_vovnet19b_dw",
    "legacy_xception", "xception41",
]  # fmt: skip
"""One of each file in `PLAIN`."""
OTHERS = [
    "convnext_atto", "efficientformer_l1", "repvit_m1", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224",
    "vgg11",
]  # fmt: skip


def prepared(name):
    """A teacher in evaluation mode whose weights and statistics are random, and an image that it takes."""
    torch.manual_seed(0)
    teacher = build_teacher(name, num_classes=CLASSES, in_channels=3).eval()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    for layer in teacher.network.final_layers:
        nn.init.normal_(teacher.get_submodule(f"network.{layer}").weight)
    zoo, _, model = name.partition("/")
    inputs = {"torchvision": torchvision_zoo, "timm": timm_zoo}[zoo].inputs({"model": model})
    return teacher, torch.rand(2, 3, *[inputs.size if inputs.fixed_size else 96] * 2)


def check_parts(name):
    teacher, images = prepared(name)
    with torch.no_grad():
        outputs, expected = teacher(images), teacher.network.model(images)
        torch.testing.assert_close(outputs.logits, expected, rtol=1e-5, atol=1e-5)
        module, entry = components.load_architecture(name)
        weight = teacher.class_weight
        assert (weight is not None) == module.plain_classifier(entry)
        if weight is not None:
            bias = teacher.get_submodule(f"network.{teacher.network.final_layers[0]}").bias
            pooled = nn.functional.linear(outputs.features.mean((2, 3)), weight, bias)
            torch.testing.assert_close(pooled, expected, rtol=1e-3, atol=1e-4)
            assert teacher.network.widths == (outputs.features.shape[1],)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_parts_of_torchvision_models_make_their_logits(name):
    check_parts(f"torchvision/{name}")


def test_a_model_of_one_size_is_built_for_the_size_of_its_weights():
    """vit_h_14's are for 518 pixels; nothing is computed, so that the largest take no memory."""
    found = {}
    for name in torchvision_zoo.names():
        inputs = torchvision_zoo.inputs({"model": name})
        if inputs.fixed_size:
            with torch.device("meta"):
                network = torchvision_zoo.build({"model": name}, num_classes=CLASSES, in_channels=3, activation=nn.ReLU)
                images = torch.empty(1, 3, inputs.size, inputs.size)
            assert network.classify(network.last_features(images)).shape == (1, CLASSES)
            assert getattr(network.model, "image_size", 224) == inputs.size
            found[name] = inputs.size
    assert found["vit_h_14"] == 518
    assert {"maxvit_t", "vit_b_16", "vit_l_32"} <= found.keys()


def test_every_family_of_torchvision_is_known_and_tried():
    families = {torchvision_zoo.registered("torchvision")[name] for name in torchvision_zoo.names()}
    assert families == set(torchvision_zoo._FAMILIES)
    assert families == {torchvision_zoo.registered("torchvision")[name] for name in TORCHVISION}
    assert {name for name, family in torchvision_zoo._FAMILIES.items() if family.plain_classifier} == torchvision_zoo.PLAIN


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_parts_of_timm_models_make_their_logits(name):
    pytest.importorskip("timm")
    check_parts(f"timm/{name}")


@pytest.mark.slow
def test_parts_of_one_timm_model_of_each_file_make_its_logits():
    pytest.importorskip("timm")
    assert {timm_zoo.registered("timm")[name] for name in TIMM} == timm_zoo.PLAIN
    for name in [*TIMM, *OTHERS]:
        check_parts(f"timm/{name}")


@pytest.mark.parametrize("zoo", ["torchvision", "timm"])
def test_names_are_the_librarys_own(zoo):
    library = pytest.importorskip(zoo)
    theirs = library.list_models() if zoo == "timm" else library.models.list_models(module=library.models)
    names = set(components.zoo_names(zoo))
    assert set(theirs) <= names
    assert components.architecture(f"{zoo}/resnet18").entry == {"model": "resnet18"}


def test_names_are_found_without_torch():
    program = (
        "import sys\nfrom spikedistill import components\ncomponents.architecture('torchvision/resnet18')\n"
        "components.zoo_names('torchvision'), components.zoo_names('timm')\n"
        "print({'torch', 'torchvision', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_unknown_names_suggest_the_closest():
    with pytest.raises(ConfigError, match=r"unknown torchvision model 'resnet33'\. Did you mean 'resnet34'\?"):
        build_teacher("torchvision/resnet33", num_classes=2, in_channels=3)
    with pytest.raises(ConfigError, match=r"unknown timm model 'resnet10'.*are allowed; the closest: "):
        build_teacher("timm/resnet10", num_classes=2, in_channels=3)


def test_without_timm_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(timm_zoo, "registered", lambda package: {})
    with pytest.raises(ConfigError, match=r"timm is not installed: pip install 'spikedistill\[timm\]'"):
        components.architecture("timm/resnet18")


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet10t"])
def test_they_are_no_students(name):
    with pytest.raises(ConfigError, match="is an ANN, for teachers"):
        build_student(name, num_classes=2, in_channels=3, time_steps=2, neuron=NeuronConfig())


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet10t", "torchvision/mobilenet_v2"])
@pytest.mark.parametrize("channels", [1, 2])
def test_they_are_built_for_other_channels(name, channels):
    teacher = build_teacher(name, num_classes=2, in_channels=channels)
    assert teacher(torch.rand(2, channels, 32, 32)).logits.shape == (2, 2)


def test_a_state_dict_of_torchvision_fits_its_model_by_name_and_ours_by_order(tmp_path):
    import torchvision

    torch.manual_seed(4)
    theirs = torchvision.models.resnet18(num_classes=11).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    images = torch.rand(2, 3, 64, 64)
    for name, how in (("torchvision/resnet18", "by name"), ("resnet18_imagenet", "by order")):
        teacher = build_teacher(name, num_classes=11, in_channels=3).eval()
        assert load_weights(teacher.network, tmp_path / "resnet18.pth").how == how
        with torch.no_grad():
            torch.testing.assert_close(teacher(images).logits, theirs(images), rtol=1e-5, atol=1e-5)


def test_branches_that_exist_in_training_only_are_left_out(tmp_path):
    import torchvision

    theirs = torchvision.models.googlenet(num_classes=4, aux_logits=True, init_weights=False)
    torch.save(theirs.state_dict(), tmp_path / "googlenet.pth")
    teacher = build_teacher("torchvision/googlenet", num_classes=4, in_channels=3)
    assert load_weights(teacher.network, tmp_path / "googlenet.pth").how == "by name"
