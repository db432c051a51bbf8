"""The means and standard deviations that published recipes normalise by."""

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights

from spikedistill.data.loading.inputs import STATISTICS, normalize
from spikedistill.data.prepare.index import write_index
from spikedistill.data.store import open_store


def test_those_of_imagenet_are_torchvisions():
    transforms = ResNet18_Weights.DEFAULT.transforms()
    assert STATISTICS["imagenet"] == (tuple(transforms.mean), tuple(transforms.std))


def test_those_of_cifar_are_those_of_the_authors_code():
    # CIFAR-10's deviations are those of most recipes, means over images, and not 0.247, 0.2435, 0.2616, those over all pixels
    assert STATISTICS["cifar10"] == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert STATISTICS["cifar100"] == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def test_images_are_scaled_before_they_are_normalised():
    mean, std = (torch.tensor([value]).reshape(1, 1, 1, 1) for value in (0.5, 0.25))
    found = normalize(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1), mean, std)
    assert found.flatten().tolist() == pytest.approx([-2.0, -1.2, 2.0])


def test_a_channel_of_one_value_is_not_scaled(tmp_path, caplog):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), dtype=np.uint8)
    images[:, 2] = 37
    np.save(tmp_path / "images.npy", images)
    rows = [{"id": str(number), "label": 0} for number in range(4)]
    write_index(tmp_path, kind="images", class_names=["a"], rows=rows, splits={"train": range(4)}, recipe={})
    data = open_store(tmp_path)
    assert data.std[2] == 1 and data.mean[2] == pytest.approx(37 / 255, abs=1e-6)
    assert 0 < data.std[0] < 1
    assert "channels [2] have one value in all training samples" in caplog.text
