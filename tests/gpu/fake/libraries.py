"""Answers for cuDNN and cuBLAS on the fake GPU: tensors of the right shape, dtype and layout, as torch's FakeTensorMode says.

They replace the kernels of a few operators, for all threads of the process. Everything above them is torch's own: the choice of
the device, autograd, autocast.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from tests.gpu.fake.counts import runtime

MATRICES = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "_addmm_activation")
OTHERS = ("convolution", "convolution_backward", "cudnn_batch_norm", "cudnn_batch_norm_backward")
SAME_DTYPES = (*MATRICES, "convolution", "convolution_backward")
"""Operators whose floating-point tensors must have one dtype."""


@functools.cache
def replace_libraries() -> torch.library.Library:
    """Let this process answer for the libraries; the replacement lasts as long as the returned object."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are overridden, which is what this is for
        for name in (*MATRICES, *OTHERS):
            library.impl(name, _answering(name, "default"), "CUDA")
        for name in MATRICES:
            library.impl(f"{name}.out", _answering(name, "out"), "CUDA")
    return library


def _answering(name: str, overload: str) -> Callable[..., Any]:
    operator = getattr(getattr(torch.ops.aten, name), overload)

    def answer(*arguments: Any, **options: Any) -> Any:
        tensors = [leaf for leaf in pytree.tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        _check(name, tensors)
        device = tensors[0].device
        with torch.cuda.device(device):
            error = runtime().fake_library_call(torch.cuda.current_stream().cuda_stream)
        torch.cuda.check_error(error)
        if "out" in options:
            return options["out"]
        return pytree.tree_map_only(_Layout, lambda layout: layout.empty(device), _layouts(operator, arguments, options))

    return answer


def _check(name: str, tensors: list[Tensor]) -> None:
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {sorted(map(str, devices))}")
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if name in SAME_DTYPES and len(dtypes) > 1:
        raise RuntimeError(f"{name}: expected tensors of one dtype, found {sorted(map(str, dtypes))}")


class _Layout:
    """Shape, strides and dtype of a tensor; equal ones have equal keys."""

    def __init__(self, tensor: Tensor) -> None:
        self.key = tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, tensor.requires_grad

    def empty(self, device: torch.device) -> Tensor:
        shape, strides, dtype, _ = self.key
        return torch.empty_strided(shape, strides, dtype=dtype, device=device)


_known: dict[str, Any] = {}


def _layouts(operator: Any, arguments: Any, options: Any) -> Any:
    """Return what an operator returns, with layouts instead of tensors; asks torch once for each kind of call."""
    described = pytree.tree_map_only(Tensor, lambda tensor: _Layout(tensor).key, (arguments, options))
    key = f"{operator} {described}"
    if key not in _known:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = pytree.tree_map_only(Tensor, mode.from_tensor, (arguments, options))
            _known[key] = pytree.tree_map_only(Tensor, _Layout, operator(*fake[0], **fake[1]))
    return _known[key]
