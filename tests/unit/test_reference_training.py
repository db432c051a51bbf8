"""One training step of whole networks is that of the authors' own code: logits, loss and the gradient of every parameter.

The expected numbers are in tests/golden/networks.json; its `about` says how weights and inputs are drawn.
"""

import pytest
import torch

from spikedistill import components
from spikedistill.models import add_exits, build_student, build_teacher
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.distill import Distillation
from spikedistill.train.engine import Batch
from spikedistill.train.settings import TrainConfig
from tests import reference_checkpoints as reference

pytestmark = pytest.mark.slow
TOLERANCE = {"sealkd": 1e-8, "ckdsnn": 1e-8, "tdd": 1e-7, "esd": 1e-7}  # the code of the last two adds 1e-8 to a count


def student_of(case):
    neuron = reference.neuron_of(case)
    sizes = {"num_classes": case["classes"], "in_channels": case["channels"]}
    choices = {"backward": case.get("backward", "bptt"), "scale_grad_by_steps": case.get("divide_by_steps", True)}
    student = build_student(case["student"], time_steps=case["T"], neuron=neuron, **sizes, **choices)
    if "pooling" in case:
        add_exits(student, case["student"], num_classes=case["classes"], pooling=case["pooling"])
    return reference.drawn(student.double(), case["first_keys"]["student"]).train()


def teacher_of(case):
    if "teacher" not in case:
        return None
    teacher = build_teacher(case["teacher"], num_classes=case["classes"], in_channels=case["channels"])
    return reference.drawn(teacher.double(), case["first_keys"]["teacher"]).requires_grad_(False).eval()


def spec_of(case):
    method = components.load("distill", case["method"])
    params = {**case["params"], **({"pooling": case["pooling"]} if "pooling" in case else {})}
    resolved = method.Params.model_validate(params).model_dump(mode="json")
    train = TrainConfig(epochs=1, batch_size=case["batch"])
    return DistillSpec.model_construct(method=case["method"], params=resolved, seed=0, time_steps=case["T"], train=train)


@pytest.mark.parametrize("name", reference.CASES)
def test_one_training_step(name, monkeypatch):
    case = reference.CASES[name]
    tolerance = TOLERANCE[case["method"]]
    student, teacher = student_of(case), teacher_of(case)
    objective = Distillation(spec_of(case), teacher)
    if "noise" in case["first_keys"]:
        noise = reference.draw(case["first_keys"]["noise"], 0, (case["batch"], case["classes"]))
        monkeypatch.setattr(objective, "_noise", lambda outputs, batch: noise)
    batch = Batch(reference.inputs(case), torch.tensor(case["labels"]), epoch=0, step=0, first=0, global_size=case["batch"])

    outputs = student(batch.inputs)
    terms = objective(outputs, batch)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()

    def close(actual, expected):
        torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance)

    logits = {"m": outputs.logits.mean(0), "e": outputs.exits, "": outputs.logits}[case.get("logits_are", "")[:1]]
    close(logits.flatten(0, -2)[:, :6], case["logits"])
    close(loss.detach(), case["loss"]["total"])
    for term in case["loss"].keys() & terms.keys():
        close(terms[term].detach(), case["loss"][term])
    gradients = [parameter.grad for parameter in student.parameters()]
    close(torch.stack([gradient.norm() for gradient in gradients]), case["gradient_norms"])
    probes = [(gradient * reference.draw(99, k, tuple(gradient.shape))).sum() for k, gradient in enumerate(gradients)]
    close(torch.stack(probes), case["gradient_probes"])
