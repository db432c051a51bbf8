"""Bytes that operations read and write, by the sizes of their tensors: what they would move on a GPU without a cache.

`python -m tests.gpu.fake -m tests.gpu.traffic` prints those of a residual block, fused and not, and the registers of the kernels,
as JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch._inductor.config
import triton
from torch import Tensor
from torch._inductor import metrics
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from spikedistill.models.resnet import BasicBlock
from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.network.fusion import fuse_normalisation
from tests.gpu.ahead_of_time import launches_of_everything

aten = torch.ops.aten
READS = {"native_batch_norm": 2, "native_batch_norm_backward": 2, "cudnn_batch_norm": 2, "cudnn_batch_norm_backward": 2}
"""How often an operation reads its inputs, where it is not once: statistics first, then values."""
WITHOUT_TRAFFIC = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"}


class Traffic(TorchDispatchMode):
    """Counts, within a `with` block, bytes by name of operation or kernel; kernels read and write each tensor once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        is_view = any(result.alias_info and not result.alias_info.is_write for result in function._schema.returns)
        if not is_view and name not in WITHOUT_TRAFFIC:
            self.bytes[name] += READS.get(name, 1) * _size((args, kwargs)) + _size(out)
        return out

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count operations and launches of Triton within the block."""
        run = triton.JITFunction.run

        def counted(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            self.bytes[kernel.__name__] += _size((args, kwargs))
            return run(kernel, *args, **kwargs)

        triton.JITFunction.run = counted
        try:
            with self:
                yield
        finally:
            triton.JITFunction.run = run


def _size(values: Any) -> int:
    leaves = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def of_block(*, fused: bool, steps: int = 4, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """Return what a residual block of 64 channels moves and holds, in bytes per element of one activation; GPU or fake GPU.

    Convolutions are left out of the traffic: they move the same in both.
    """
    block, y = _block_and_input(steps, dtype)
    if fused:
        fuse_normalisation(block)
    passes = {"forward": Traffic(), "backward": Traffic()}
    kept: dict[int, int] = {}
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        block(y.requires_grad_())  # weights are cast, kernels compiled
        with torch.autograd.graph.saved_tensors_hooks(lambda x: _remember(kept, x), lambda x: x), passes["forward"].counting():
            spikes = block(y)
    upstream = torch.zeros_like(spikes)
    with passes["backward"].counting():
        spikes.backward(upstream)
    found: dict[str, Any] = {"held": round(sum(kept.values()) / y.numel(), 1)}
    for name, traffic in passes.items():
        large = {op: round(size / y.numel(), 1) for op, size in traffic.bytes.items() if "convolution" not in op}
        found[name] = round(sum(large.values()), 1)
        found[f"{name}_by_operation"] = {op: size for op, size in large.items() if size >= 0.1}
    return found


def of_compiled_block(steps: int = 4, dtype: torch.dtype = torch.bfloat16) -> tuple[float, float]:
    """Return what the code of torch.compile moves forward and backward in the same block, convolutions included, as it counts."""
    block, y = _block_and_input(steps, dtype)
    torch._logging.set_logs(inductor_metrics=True)  # else it does not count
    run = torch.compile(block, dynamic=False)
    moved = []
    with torch._inductor.config.patch(force_disable_caches=True, compile_threads=1):
        metrics.reset()
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            spikes = run(y.requires_grad_())
        moved.append(metrics.num_bytes_accessed)
        spikes.backward(torch.zeros_like(spikes))
        moved.append(metrics.num_bytes_accessed)
    torch._logging.set_logs()
    return round(moved[0] / y.numel(), 1), round((moved[1] - moved[0]) / y.numel(), 1)


def _block_and_input(steps: int, dtype: torch.dtype) -> tuple[BasicBlock, Tensor]:
    block = BasicBlock(64, 64, 1, lambda: LIF(NeuronConfig(), steps)).cuda().to(memory_format=torch.channels_last).train()
    return block, torch.zeros(16 * steps, 64, 32, 32, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)


def _remember(kept: dict[int, int], x: Tensor) -> Tensor:
    kept[x.untyped_storage().data_ptr()] = x.numel() * x.element_size()
    return x


def registers() -> dict[str, dict[str, int]]:
    """Return registers of each kernel at T = 4 in bf16, the largest of its variants, and bytes that are spilled, for an H100."""
    found: dict[str, dict[str, int]] = {}
    for launch in launches_of_everything(torch.bfloat16, Dynamics.from_config(NeuronConfig())):
        _, number, spilled = launch.compile(90)
        row = found.setdefault(launch.kernel, {"registers": 0, "spilled_bytes": 0})
        row["registers"], row["spilled_bytes"] = max(row["registers"], number), max(row["spilled_bytes"], spilled)
    return found


def main() -> None:
    """Print everything."""
    block: dict[str, Any] = {name: of_block(fused=name == "fused") for name in ("layer by layer", "fused")}
    block["compiled, convolutions included"] = dict(zip(("forward", "backward"), of_compiled_block(), strict=True))
    what = "residual block of ResNet-18, 64 channels, bf16, T=4: bytes per element of one activation; convolutions left out"
    command = "python -m tests.gpu.fake -m tests.gpu.traffic"
    print(json.dumps({"command": command, "what": what, **block, "kernels for sm_90": registers()}, indent=2))


if __name__ == "__main__":
    main()
