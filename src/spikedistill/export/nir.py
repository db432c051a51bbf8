"""Exports a student to NIR, the Neuromorphic Intermediate Representation (https://neuroir.org), through SpikingJelly's exchange.

`export.nir_graph` has what the graph is made of. It is read back after writing, and must give the logits of the student.

Letters: T step, B batch, C channel, H and W size of a map, K class.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError, SpikedistillError
from spikedistill.export.nir_graph import to_spikingjelly
from spikedistill.models import Student
from spikedistill.neurons.encoding import Encoder
from spikedistill.plan.stages import NetworkSpec

CHECKED_SAMPLES = 64
TIME_STEP_S = 1e-4
TOLERANCE = 1e-9  # for logits that differ only by rounding in float64


def write_nir(network: nn.Module, data: SampleStore, spec: NetworkSpec, file: Path) -> None:
    """Write the NIR graph of a student, read it back and compare both on test samples.

    Args:
        network: the student, in evaluation mode.
        data: the dataset it was trained on.
        spec: its spec.
        file: the HDF5 file to write.

    Raises:
        ConfigError: if NIR cannot express the network, or the packages for it are not installed.
        SpikedistillError: if the logits of the graph that is read back differ from those of the student.
    """
    if not isinstance(network, Student):
        raise ConfigError(
            f"{spec.ref}: only a student can be written as NIR, which cannot express the activation functions of a teacher"
        )
    if getattr(network.network, "runs_all_steps", False):
        raise ConfigError(
            f"{spec.ref}: a network that runs all time steps at once, as {spec.arch!r} does, cannot be traced layer by layer for "
            "NIR; export it without --nir"
        )
    try:
        from spikingjelly.activation_based import nir_exchange
    except ImportError as err:
        raise ConfigError(f"NIR needs more packages ({err}); install them: pip install 'spikedistill[nir]'") from err
    student = Student(copy.deepcopy(network.network), network.time_steps).double().eval()
    frames = example_frames(data, spec.inputs, network.time_steps, encoder=network.encoder)
    graph = to_spikingjelly(student, frames[0, :1])
    nir_exchange.export_to_nir(graph, frames[:, :1], save_path=file, dt=TIME_STEP_S)
    difference = float((run_nir(file, frames) - student(frames).logits).abs().max())
    if not difference < TOLERANCE:
        raise SpikedistillError(
            f"{spec.ref}: the NIR graph gives other logits than the student (they differ by up to {difference:.2g})"
        )


def run_nir(file: Path, frames: Tensor) -> Tensor:
    """Run a NIR graph in SpikingJelly on frames [T, B, C, H, W]; return its logits [T, B, K] in float64."""
    from spikingjelly.activation_based import nir_exchange

    network = nir_exchange.import_from_nir(file, dt=TIME_STEP_S, dtype=torch.float64, step_mode="m").eval()
    with torch.no_grad():
        logits, _ = network(frames)
    return logits


def example_frames(
    data: SampleStore, inputs: InputConfig, time_steps: int, *, count: int = CHECKED_SAMPLES, encoder: Encoder | None = None
) -> Tensor:
    """Return the first test samples as input of the graph, float64 [T, B, C, H, W].

    A static image is repeated at every step, or becomes spikes by the encoder of the student.
    """
    loader = Loader(data, "test", batch_size=min(count, len(data.split("test"))), inputs=inputs)
    batch, _ = next(loader.epoch(0))
    if batch.dim() == 5:
        return batch.double()
    return (batch.expand(time_steps, *batch.shape) if encoder is None else encoder(batch)).double()
