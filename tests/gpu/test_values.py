"""On a real GPU: the losses and gradients of every method are those of the CPU.

In float64 they are compared exactly. In float32 and bf16, rounding lets some potentials fall on the other side of the threshold,
so that it is the direction of the gradient that is compared.
"""

import pytest
import torch

from spikedistill.data.loading.loader import Loader
from spikedistill.stages.distill import Distillation
from spikedistill.train.network.preparation import lay_out_channels_last
from spikedistill.train.objective import Batch
from spikedistill.train.step.draws import Draws
from tests.gpu.test_steps import METHODS, RATE_PARAMS
from tests.gpu.training import Case, build_networks, noise

pytestmark = pytest.mark.only_real

SIMILAR = {torch.float32: 0.99, torch.bfloat16: 0.8}
"""Cosine of the gradients of both devices, at least."""


@pytest.fixture(autouse=True)
def same_arithmetic(monkeypatch):
    """Convolve float32 in float32, not in TF32, and draw the same noise on both devices."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)

    def drawn_on_the_cpu(self, name):
        distribution, numbers = self._drawn[name]
        generator = torch.Generator().manual_seed(7)
        draw = torch.randn if distribution == "normal" else torch.rand
        numbers.copy_(draw(numbers.shape, generator=generator, dtype=torch.float64))

    monkeypatch.setattr(Draws, "_draw", drawn_on_the_cpu)


def loss_and_gradient(case, device, dtype):
    """Return the loss of the first batch and its gradient as one vector, on the CPU; bf16 is that of autocast."""
    spec, teacher_spec = case.specs()
    data = noise(case)
    student, teacher = build_networks(spec, teacher_spec, data, torch.device("cpu"))
    inputs, labels = next(iter(Loader(data, "train", batch_size=case.batch_size, seed=1, shuffle=True).epoch(0)))
    kept = torch.float32 if dtype == torch.bfloat16 else dtype
    student = student.to(device, kept).train()
    lay_out_channels_last(student)
    objective = Distillation(spec, None if teacher is None else teacher.to(device, kept), student)
    batch = Batch(inputs.to(device, kept), labels.to(device), 0, 0, first=0, global_size=len(labels))
    objective.prepare(batch)
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        outputs = student(batch.inputs)
    loss = torch.stack(list(objective(outputs.in_full_precision(), batch).values())).sum()
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in student.parameters()])
    return loss.detach().cpu().double(), gradient.cpu().double()


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16], ids=["float64", "float32", "bf16"])
@pytest.mark.parametrize(("method", "backward"), METHODS)
def test_losses_and_gradients_are_those_of_the_cpu(gpu, method, backward, precision):
    params = RATE_PARAMS.get(method, {}) if backward == "rate" else {}
    train = {"precision": "bf16"} if precision == torch.bfloat16 else {}
    case = Case(method, params, arch="resnet8", teacher="resnet8", backward=backward, train=train)
    expected, expected_gradient = loss_and_gradient(case, torch.device("cpu"), precision)
    loss, gradient = loss_and_gradient(case, gpu.device, precision)
    if precision == torch.float64:
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9 * float(expected_gradient.abs().max()))
    else:
        torch.testing.assert_close(loss, expected, rtol=0.05, atol=0.05)
        assert torch.cosine_similarity(gradient, expected_gradient, dim=0) > SIMILAR[precision]
