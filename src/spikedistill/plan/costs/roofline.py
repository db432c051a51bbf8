"""A roofline estimate of the time of a training step on GPUs. Imports no torch.

The device takes the sum of two times, because convolutions, limited by arithmetic, and everything else, limited by memory, run
one after the other. Meanwhile the host launches the next operations; the slower of the two sets the pace. So a GPU that gets few
images of a batch waits for its host, and further GPUs gain nothing. Added to that is the part of the gradient exchange that
the backward pass does not hide.
"""

from __future__ import annotations

from spikedistill.plan.costs.gpus import Gpu
from spikedistill.plan.costs.work import Work
from spikedistill.train.settings import EngineConfig

FLOPS_PER_MAC = 6.0  # a multiplication and an addition, forward and twice backward
ELEMENT_BYTES = {
    "float32": 22.0,
    "bf16": 11.0,
}  # moved by all but convolutions per element of a layer's output, forward and backward
FUSED_BYTES = 0.5  # share of them that fused batch normalisation and neurons move; counted by tests/gpu
PARAMETER_BYTES = 28.0  # moved by the optimizer per parameter
LAUNCHES_PER_LAYER = 5.6  # operations per layer, forward and backward, in bf16; counted for ResNets by tests/gpu
GRAPH_LAUNCHES = 70.0  # operations of a step outside of its CUDA graph
MARGIN = 1.2  # a step relative to the slower of device and host: small kernels, augmentation, what does not overlap
OVERLAPPED = 0.67  # share of a step during which gradients are exchanged
EXPOSED = 0.1  # share of the exchange that nothing overlaps: the last bucket
GPUS_PER_NODE = 8
NETWORK = 2.0e10  # bytes per second between nodes


def step_seconds(work: Work, gpus: int, gpu: Gpu, engine: EngineConfig) -> float:
    """Return the time of one training step.

    Args:
        work: what a sample takes; `work.batch` are shared by the GPUs.
        gpus: number of GPUs.
        gpu: their model.
        engine: how training runs.
    """
    busy = max(device_seconds(work, work.batch / gpus, gpu, engine), host_seconds(work, gpu, engine))
    exchange = exchange_seconds(work, gpus, gpu)
    return MARGIN * busy + max(EXPOSED * exchange, exchange - OVERLAPPED * busy)


def device_seconds(work: Work, samples: float, gpu: Gpu, engine: EngineConfig) -> float:
    """Return the time that the device needs for a step of this many samples."""
    arithmetic = samples * FLOPS_PER_MAC * work.macs / gpu.flops[work.precision]
    elements = work.elements * (1 - fused_share(work, engine) * (1 - FUSED_BYTES))
    traffic = samples * ELEMENT_BYTES[work.precision] * elements + PARAMETER_BYTES / 4 * work.gradient_bytes
    return arithmetic + traffic / gpu.bandwidth


def fused_share(work: Work, engine: EngineConfig) -> float:
    """Return the share of the elements that are computed with their neighbours; compiled blocks are not."""
    return work.fusible if engine.fuse and not engine.compile else 0.0


def host_seconds(work: Work, gpu: Gpu, engine: EngineConfig) -> float:
    """Return the time that the host needs to launch a step, whatever the number of samples."""
    launches = GRAPH_LAUNCHES if engine.cuda_graph else LAUNCHES_PER_LAYER * work.layers * engine.accumulate
    return launches * gpu.launch_s


def exchange_seconds(work: Work, gpus: int, gpu: Gpu) -> float:
    """Return the time of summing the gradients of all ranks in a ring, through its slowest link."""
    link = gpu.link if gpus <= GPUS_PER_NODE else min(gpu.link, NETWORK)
    return 2 * (gpus - 1) / gpus * work.gradient_bytes / link
