"""What every method promises of its parameters and of its loss, on batches of random values.

Letters: T step, B batch, C class, D channel, E exit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import torch
from pydantic import ValidationError
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from spikedistill.components import ComponentParams
from spikedistill.contract.findings import require
from spikedistill.distill.method_inputs import MethodInputs, Need

STUDENT = ("logits", "exits", "features")
"""What has a gradient."""
TEACHER = ("teacher_logits", "teacher_features", "teacher_weight")
BATCH_FIRST = ("labels", "teacher_logits", "teacher_features", "noise")
STEPS = (1, 4)


def choices(method: ModuleType) -> Iterator[dict[str, Any]]:
    """Yield every combination of the parameters that are a choice among names; the defaults, if there is none."""
    fields = method.Params.model_fields
    named = {key: get_args(field.annotation) for key, field in fields.items() if get_origin(field.annotation) is Literal}
    for values in itertools.product(*named.values()):
        yield dict(zip(named, values, strict=True))


def random_inputs(
    method: ModuleType,
    params: dict[str, Any],
    num_steps: int = 4,
    *,
    largest: float = 2.0,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> MethodInputs:
    """Return a batch with no more in it than a method declares: T steps, B=4, C=5, E=3 exits, D=6 maps of 4x4.

    Args:
        method: module of the method.
        params: its parameters.
        num_steps: T.
        largest: bound of the absolute values of logits.
        dtype: of all floats.
        seed: of the random values.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return largest * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)

    fields = {"logits": uniform(num_steps, 4, 5), "teacher_logits": uniform(4, 5), "exits": uniform(3, 4, 5)}
    fields["features"] = (uniform(num_steps, 4, 6, 4, 4) > 0).double()
    fields["teacher_features"] = uniform(4, 8, 4, 4).relu()
    fields["teacher_weight"] = uniform(5, 8)
    fields["noise"] = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    needs = method.needs(method.Params(**params))
    declared = {"logits", *needs} | ({"teacher_logits"} if "teacher" in needs else set())
    declared |= {"teacher_features", "teacher_weight"} if {"features", "teacher"} <= needs else set()
    given: dict[str, Any] = {name: value.to(dtype) for name, value in fields.items() if name in declared}
    return MethodInputs(labels=torch.tensor([0, 1, 2, 4]), **given)


def changed(inputs: MethodInputs, change: Callable[[Tensor], Tensor]) -> MethodInputs:
    """Return the inputs with every tensor of floating point changed."""
    floats = {name: value for name, value in _tensors(inputs).items() if value.is_floating_point()}
    values: dict[str, Any] = {name: change(value) for name, value in floats.items()}
    return dataclasses.replace(inputs, **values)


def total(method: ModuleType, inputs: MethodInputs, params: dict[str, Any]) -> Tensor:
    """Return the sum of the terms of a loss."""
    return torch.stack(list(method.loss(inputs, method.Params(**params)).values())).sum()


def learners_of(inputs: MethodInputs) -> dict[str, Tensor]:
    """Return the student's tensors that a method is to move, with gradients on."""
    names = ["exits" if inputs.exits is not None else "logits", *(["features"] if inputs.features is not None else [])]
    return {name: getattr(inputs, name).requires_grad_() for name in names}


def is_described(method: ModuleType) -> None:
    """The docstring and every parameter say what they are, and `needs` names what there is."""
    first = (method.__doc__ or "").strip().partition("\n")[0]
    require(first.endswith("."), f"the docstring of the file begins with one sentence about the method; found {first!r}")
    require(issubclass(method.Params, ComponentParams), "Params is a subclass of spikedistill.components.ComponentParams")
    bare = [key for key, field in method.Params.model_fields.items() if not field.description]
    require(not bare, f"every parameter has a description: Field(…, description=…); without: {', '.join(bare)}")
    strange = set(method.needs(method.Params())) - set(get_args(Need))
    require(not strange, f"needs returns some of {', '.join(get_args(Need))}; found {', '.join(map(str, strange))}")


def refuses_numbers_that_are_not_finite(method: ModuleType) -> None:
    """Infinity and NaN are no values of a parameter."""
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
        for name, learner in learners.items():
            gradient = learner.grad
            require(gradient is not None and gradient.isfinite().all(), f"T={num_steps}: {name} gets a finite gradient")
            assert gradient is not None
            require((gradient.abs().flatten(1).sum(1) > 0).all(), f"T={num_steps}: every step or exit of {name} gets a gradient")


def the_order_of_samples_does_not_matter(method: ModuleType, params: dict[str, Any]) -> None:
    """The loss of a batch is that of the same batch in another order."""
    inputs, order = random_inputs(method, params), torch.tensor([2, 0, 3, 1])
    given = _tensors(inputs)
    ordered: dict[str, Any] = {key: given[key][order] for key in BATCH_FIRST if key in given}
    ordered |= {key: given[key][:, order] for key in STUDENT if key in given}
    one, other = total(method, inputs, params), total(method, dataclasses.replace(inputs, **ordered), params)
    require(torch.allclose(one, other), f"the order of the samples changes the loss: {one.item()} and {other.item()}")


def extreme_batches_give_finite_losses(method: ModuleType, params: dict[str, Any]) -> None:
    """Loss and gradients are finite where all samples are right, all are wrong, or all logits are equal."""
    for num_steps, (what, situation) in itertools.product(STEPS, _SITUATIONS.items()):
        inputs = random_inputs(method, params, num_steps)
        given = _tensors(inputs)
        extreme: dict[str, Any] = {key: situation(given[key], inputs.labels) for key in ("logits", "exits") if key in given}
        if what == "all equal":
            extreme |= {key: torch.zeros_like(given[key]) for key in ("features", "teacher_features") if key in given}
        inputs = dataclasses.replace(inputs, **extreme)
        learners = learners_of(inputs)
        loss = total(method, inputs, params)
        loss.backward()
        finite = all(learner.grad is not None and learner.grad.isfinite().all() for learner in learners.values())
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
    """No value is read: `.item()`, an `if` on a tensor or indexing with a mask would wait for the GPU at every step."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        inputs = changed(random_inputs(method, params), mode.from_tensor)
        inputs = dataclasses.replace(inputs, labels=mode.from_tensor(inputs.labels))
        learners = learners_of(inputs)
        total(method, inputs, params).backward()
        for name, learner in learners.items():
            require(learner.grad is not None and learner.grad.shape == learner.shape, f"{name} gets a gradient of its shape")


def no_gradient_flows_into_the_teacher(method: ModuleType, params: dict[str, Any]) -> None:
    """The teacher's tensors are constants."""
    inputs = random_inputs(method, params)
    learners_of(inputs)
    given = _tensors(inputs)
    teachers = {key: given[key].requires_grad_() for key in TEACHER if key in given}
    total(method, inputs, params).backward()
    taught = [key for key, tensor in teachers.items() if tensor.grad is not None]
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
    no_gradient_flows_into_the_teacher,
)
"""Checks of a method with each of its `choices`."""


def _tensors(inputs: MethodInputs) -> dict[str, Tensor]:
    fields = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _all_right(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels.expand(len(logits), -1)[..., None], 99.0)


def _all_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels.expand(len(logits), -1)[..., None], -99.0)


def _all_equal(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.zeros_like(logits)


_SITUATIONS = {"all right": _all_right, "all wrong": _all_wrong, "all equal": _all_equal}
