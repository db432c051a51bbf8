"""Batches: their parts, and losses and accuracy of mixed samples."""

import pytest
import torch

from spikedistill.models import ModelOutput
from spikedistill.train.objective import Batch

LABELS, PARTNERS, KEYS = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 0, 1, 2]), torch.tensor([5, 6, 7, 8])


def batch(inputs, **given):
    return Batch(inputs, LABELS, epoch=1, step=2, first=8, global_size=16, **given)


@pytest.mark.parametrize("shape", [(4, 1, 2, 2), (3, 4, 1, 2, 2)], ids=["images", "frames"])
def test_parts_have_their_own_samples_labels_partners_keys_and_places(shape):
    inputs = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    dim = len(shape) - 4
    parts = batch(inputs, partners=PARTNERS, share=0.7, keys=KEYS).split(2)
    assert [part.first for part in parts] == [8, 10]
    assert torch.equal(torch.cat([part.inputs for part in parts], dim), inputs)
    for name, whole in (("labels", LABELS), ("partners", PARTNERS), ("keys", KEYS)):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), whole)
    assert {(part.epoch, part.step, part.global_size, part.share) for part in parts} == {(1, 2, 16, 0.7)}


def test_parts_of_plain_samples_have_neither_partners_nor_keys():
    assert [(part.partners, part.keys) for part in batch(torch.zeros(4, 1, 2, 2)).split(4)] == [(None, None)] * 4


@pytest.mark.parametrize("share", [0.75, torch.tensor(0.75)])
def test_the_loss_of_mixed_samples_is_shared_out(share):
    mixed = batch(torch.zeros(4, 1, 2, 2), partners=PARTNERS, share=share)
    terms = mixed.over_labels(lambda labels: {"sum": labels.sum().float(), "first": labels[0].float()})
    assert {name: value.item() for name, value in terms.items()} == {"sum": 0.75 * 3 + 0.25 * 5, "first": 0.25 * 2}


def test_the_loss_of_plain_samples_is_that_of_their_labels():
    plain = batch(torch.zeros(4, 1, 2, 2))
    assert plain.over_labels(lambda labels: {"sum": labels.sum()})["sum"] == 3


def test_the_accuracy_of_mixed_samples_is_shared_out():
    logits = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 2]), 3).float()[None]  # two labels, two partners
    outputs = ModelOutput(logits, logits)
    assert batch(torch.zeros(4, 1, 2, 2)).accuracy(outputs).item() == 0.5
    assert batch(torch.zeros(4, 1, 2, 2), partners=PARTNERS, share=0.9).accuracy(outputs).item() == pytest.approx(0.5)
    right = ModelOutput(torch.nn.functional.one_hot(LABELS, 3).float()[None], logits)
    assert batch(torch.zeros(4, 1, 2, 2), partners=PARTNERS, share=0.9).accuracy(right).item() == pytest.approx(0.9)
