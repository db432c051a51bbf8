"""Keys of the Poisson draws: functions of seed, epoch and position in the epoch, whoever computes a sample."""

import pytest
import torch

from spikedistill.models import build_student
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World
from spikedistill.train.interrupt import Interrupted
from spikedistill.train.network.encoding import sample_keys
from spikedistill.train.objective import Batch
from tests.unit.train import rank


def student(encoding="poisson"):
    given = {"num_classes": 3, "in_channels": 1, "time_steps": 2, "neuron": NeuronConfig()}
    return build_student("resnet8", **given, encoding=encoding, statistics=((0.5,), (0.25,)))


def keys(*, seed=7, epoch=2, step=3, first=0, size=8, global_size=8):
    batch = Batch(torch.zeros(size, 1, 8, 8), torch.zeros(size), epoch, step, first, global_size)
    return sample_keys(student(), batch, seed).tolist()


def test_parts_of_a_batch_on_other_ranks_or_accumulated_get_the_keys_of_the_whole():
    whole = keys()
    assert keys(size=4) + keys(size=2, first=4) + keys(size=2, first=6) == whole
    assert len(set(whole)) == 8


def test_a_position_has_one_key_however_large_the_batches_are():
    assert keys(step=0, size=16, global_size=16)[8:] == keys(step=1)


def test_seed_and_epoch_and_step_change_the_keys():
    assert len({tuple(keys(**changed)) for changed in ({}, {"seed": 8}, {"epoch": 3}, {"step": 4})}) == 4


def test_a_student_without_encoder_has_no_keys():
    assert sample_keys(student("direct"), Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2), 0, 0, 0, 2), 0) is None


def test_an_interrupted_run_resumes_with_the_same_draws(tmp_path, monkeypatch):
    plain = rank.build_student
    encoded = {"encoding": "poisson", "statistics": ((0.5,), (0.25,))}
    monkeypatch.setattr(rank, "build_student", lambda *given, **options: plain(*given, **options, **encoded))
    expected = rank.run_training(tmp_path / "unbroken", World()).state_dict()
    with pytest.raises(Interrupted):
        rank.run_training(tmp_path / "stopped", World(), at=6, action="SIGTERM")
    resumed = rank.run_training(tmp_path / "stopped", World()).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
