"""What every method promises of its parameters, its loss and its trainable parts, on batches of random values."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_args

import torch
from pydantic import ValidationError
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from spikedistill.contract.batches import (
    BATCH_FIRST,
    SITUATIONS,
    STUDENT,
    TEACHER,
    built_parts,
    changed,
    each_changed,
    learners_of,
    random_inputs,
    tensors_of,
)
from spikedistill.contract.findings import require, require_description
from spikedistill.distill.method_inputs import MethodInputs, Need

STEPS = (1, 4)


def total(method: ModuleType, inputs: MethodInputs, params: dict[str, Any]) -> Tensor:
    """Return the sum of the terms of a loss."""
    return torch.stack(list(method.loss(inputs, method.Params(**params)).values())).sum()


def is_described(method: ModuleType) -> None:
    """The file and every parameter are described, and `needs` names known inputs."""
    require_description(method, "method")
    strange = set(method.needs(method.Params())) - set(get_args(Need))
    require(not strange, f"needs returns some of {', '.join(get_args(Need))}; found {', '.join(map(str, strange))}")


def refuses_numbers_that_are_not_finite(method: ModuleType) -> None:
    """Parameters refuse infinity and NaN."""
    for key, field in method.Params.model_fields.items():
        for value in (math.inf, math.nan) if field.annotation is float else ():
            try:
                method.Params(**{key: value})
            except ValidationError:
                continue
            require(False, f"{key}: {value} is refused, as ComponentParams does by itself")


def terms_are_finite_scalars_and_reach_every_step(method: ModuleType, params: dict[str, Any]) -> None:
    """Terms are float32 scalars, and each time step or exit gets a gradient."""
    for num_steps in STEPS:
        inputs = random_inputs(method, params, num_steps)
        learners = learners_of(inputs)
        terms = method.loss(inputs, method.Params(**params))
        require(terms, "loss returns at least one term, by name")
        for name, term in terms.items():
            found = f"{term.dtype} of shape {tuple(term.shape)}"
            require(
                term.shape == () and term.dtype == torch.float32, f"term {name!r}: a float32 scalar is expected; found {found}"
            )
        torch.stack(list(terms.values())).sum().backward()
        for name, learner in _taught(learners, f"T={num_steps}").items():
            gradient = learner.grad
            assert gradient is not None
            require(gradient.isfinite().all(), f"T={num_steps}: {name} gets a finite gradient")
            require((gradient.abs().flatten(1).sum(1) > 0).all(), f"T={num_steps}: every step or exit of {name} gets a gradient")


def _taught(learners: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the learners with a gradient, after checking that only maps of stages lack one, and not all of them."""
    untaught = [name for name, learner in learners.items() if learner.grad is None]
    stages = [name for name in learners if name.startswith("stage ")]
    missing = [name for name in untaught if name not in stages or len(untaught) == len(stages)]
    require(not missing, f"{where}: {', '.join(missing)} gets a finite gradient; found none")
    return {name: learner for name, learner in learners.items() if name not in untaught}


def parts_are_trained(method: ModuleType, params: dict[str, Any]) -> None:
    """What `build` makes is decided by shapes and torch's seed, and every parameter in it gets a finite gradient."""
    inputs = random_inputs(method, params)
    if inputs.parts is None:
        return
    again = built_parts(method, params)
    assert again is not None
    same = all(map(torch.equal, inputs.parts.state_dict().values(), again.state_dict().values()))
    require(same, "build twice, from one seed of torch, gives the same weights")
    total(method, inputs, params).backward()
    for name, parameter in inputs.parts.named_parameters():
        gradient = parameter.grad
        require(gradient is not None, f"parameter {name} of the parts takes no part in the loss")
        assert gradient is not None
        require(gradient.isfinite().all() and gradient.any(), f"parameter {name} of the parts gets a finite gradient")


def the_order_of_samples_does_not_matter(method: ModuleType, params: dict[str, Any]) -> None:
    """The loss of a batch is that of the same batch in another order."""
    inputs, order = random_inputs(method, params), torch.tensor([2, 0, 3, 1])
    given = tensors_of(inputs)
    ordered = each_changed(lambda value: value[order], {key: given[key] for key in BATCH_FIRST if key in given})
    ordered |= each_changed(lambda value: value[:, order], {key: given[key] for key in STUDENT if key in given})
    one, other = total(method, inputs, params), total(method, dataclasses.replace(inputs, **ordered), params)
    require(torch.allclose(one, other), f"the order of the samples changes the loss: {one.item()} and {other.item()}")


def extreme_batches_give_finite_losses(method: ModuleType, params: dict[str, Any]) -> None:
    """Loss and gradients are finite where all samples are right, all are wrong, or all logits are equal."""
    for num_steps, (what, situation) in itertools.product(STEPS, SITUATIONS.items()):
        inputs = random_inputs(method, params, num_steps)
        given = tensors_of(inputs)
        extreme: dict[str, Any] = {key: situation(given[key], inputs.labels) for key in ("logits", "exits") if key in given}
        if what == "all equal":
            maps = ("features", "teacher_features", "stages", "teacher_stages")
            extreme |= each_changed(torch.zeros_like, {key: given[key] for key in maps if key in given})
        inputs = dataclasses.replace(inputs, **extreme)
        learners = learners_of(inputs)
        loss = total(method, inputs, params)
        loss.backward()
        finite = all(learner.grad.isfinite().all() for learner in _taught(learners, what).values() if learner.grad is not None)
        require(loss.isfinite() and finite, f"{what}, T={num_steps}: loss {loss.item()}; it and its gradients are to be finite")


def autocast_changes_nothing(method: ModuleType, params: dict[str, Any]) -> None:
    """The loss is computed in full precision under autocast, too."""
    inputs = random_inputs(method, params)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = total(method, inputs, params)
    plain = total(method, inputs, params)
    require(autocast.dtype == torch.float32, f"under autocast, the loss is float32; found {autocast.dtype}")
    require(autocast.item() == plain.item(), f"autocast changes the loss from {plain.item()} to {autocast.item()}")


def half_precision_is_converted_first(method: ModuleType, params: dict[str, Any]) -> None:
    """Half-precision logits of up to 50 give the loss of the same values in float64, to a thousandth."""
    for seed in range(5):
        half = random_inputs(method, params, largest=50.0, dtype=torch.bfloat16, seed=seed)
        with torch.autocast("cpu", torch.bfloat16):
            actual = total(method, half, params)
        exact = total(method, changed(half, lambda value: value.double()), params)
        require(actual.dtype == torch.float32, f"of bfloat16 logits, the loss is float32; found {actual.dtype}")
        require(exact.dtype == torch.float64, f"of float64 logits, the loss is float64; found {exact.dtype}")
        require(abs(actual.item() - exact.item()) <= 1e-3, f"bfloat16 logits give {actual.item()}, float64 ones {exact.item()}")


def the_host_never_waits_for_the_device(method: ModuleType, params: dict[str, Any]) -> None:
    """No value is read back: `.item()`, an `if` on a tensor or indexing with a mask would wait for the GPU at every step."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        given = random_inputs(method, params)  # in this mode, parts are made without values, too
        inputs = changed(dataclasses.replace(given, parts=None), mode.from_tensor)
        inputs = dataclasses.replace(inputs, labels=mode.from_tensor(inputs.labels), parts=given.parts)
        learners = learners_of(inputs)
        total(method, inputs, params).backward()
        for name, learner in _taught(learners, "on a GPU").items():
            require(learner.grad is not None and learner.grad.shape == learner.shape, f"{name} gets a gradient of its shape")


def label_smoothing_counts_where_the_method_says_so(method: ModuleType, params: dict[str, Any]) -> None:
    """Label smoothing changes the loss of a method that says `SMOOTHS_LABELS = True`, and of no other."""
    inputs = random_inputs(method, params)
    smoothed = dataclasses.replace(inputs, label_smoothing=0.1)
    changes = not torch.equal(total(method, inputs, params), total(method, smoothed, params))
    says = getattr(method, "SMOOTHS_LABELS", False)
    require(changes or not says, "SMOOTHS_LABELS is True, and inputs.label_smoothing does not change the loss")
    require(says or not changes, "inputs.label_smoothing changes the loss, so the file says SMOOTHS_LABELS = True")


def no_gradient_flows_into_the_teacher(method: ModuleType, params: dict[str, Any]) -> None:
    """The teacher's tensors are constants."""
    inputs = random_inputs(method, params)
    learners_of(inputs)
    given = tensors_of(inputs)
    teachers = {key: given[key] if isinstance(given[key], tuple) else (given[key],) for key in TEACHER if key in given}
    for tensor in itertools.chain.from_iterable(teachers.values()):
        tensor.requires_grad_()
    total(method, inputs, params).backward()
    taught = [key for key, tensors in teachers.items() if any(tensor.grad is not None for tensor in tensors)]
    require(not taught, f"detach what comes from the teacher: {', '.join(taught)} got a gradient")


ONCE: tuple[Callable[[ModuleType], None], ...] = (is_described, refuses_numbers_that_are_not_finite)
"""Checks of a method."""
OF_EACH_CHOICE: tuple[Callable[[ModuleType, dict[str, Any]], None], ...] = (
    terms_are_finite_scalars_and_reach_every_step,
    the_order_of_samples_does_not_matter,
    extreme_batches_give_finite_losses,
    autocast_changes_nothing,
    half_precision_is_converted_first,
    the_host_never_waits_for_the_device,
    label_smoothing_counts_where_the_method_says_so,
    no_gradient_flows_into_the_teacher,
    parts_are_trained,
)
"""Checks of a method with each of its `choices`."""
