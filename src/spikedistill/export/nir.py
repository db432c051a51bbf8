"""Exports a student to NIR, the Neuromorphic Intermediate Representation (https://neuroir.org), through SpikingJelly's exchange.

The network is traced, batch normalisation is folded into the convolution before it, and SpikingJelly's layers replace all others.
A layer that NIR or the exchange cannot express is refused by name. Weights are float64, so that rounding when folding changes no
spike: the graph is read back after writing and must give the logits of the student.

Letters: T step, B batch, C channel.
"""

from __future__ import annotations

import copy
import operator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError, SpikedistillError
from spikedistill.models import Student
from spikedistill.models.network import Network
from spikedistill.neurons.lif import LIF
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
    try:
        from spikingjelly.activation_based import nir_exchange
    except ImportError as err:
        raise ConfigError(f"NIR needs more packages ({err}); install them: pip install 'spikedistill[nir]'") from err
    student = Student(copy.deepcopy(network.network), network.time_steps).double().eval()
    frames = example_frames(data, spec.inputs, network.time_steps)
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


def example_frames(data: SampleStore, inputs: InputConfig, time_steps: int, *, count: int = CHECKED_SAMPLES) -> Tensor:
    """Return the first test samples as input of the graph, float64 [T, B, C, H, W]; a static image is repeated at every step."""
    loader = Loader(data, "test", batch_size=min(count, len(data.split("test"))), inputs=inputs)
    batch, _ = next(loader.epoch(0))
    frames = batch if batch.dim() == 5 else batch.expand(time_steps, *batch.shape)
    return frames.double()


class _Whole(nn.Module):
    """A network from the input of one time step to its logits, for tracing."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.classify(self.network.last_features(self.network.encode(x)))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LIF) or super().is_leaf_module(m, module_qualified_name)


def to_spikingjelly(student: Student, example: Tensor) -> fx.GraphModule:
    """Rebuild a student from SpikingJelly's layers, which work on [T, B, ...].

    Args:
        student: the student, in evaluation mode.
        example: one step of one sample [1, C, H, W], in the dtype of the student.

    Raises:
        ConfigError: if the exchange has no node for a layer, with the name of the first such layer.
    """
    return _Conversion(_Whole(student.network)).run(example)


class _Conversion:
    """Walks the traced network once, layer by layer, and builds the network of SpikingJelly's layers."""

    def __init__(self, whole: _Whole) -> None:
        self._source = _Tracer().trace(whole)
        self._modules = dict(whole.named_modules())
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._made: dict[fx.Node, fx.Node] = {}
        self._folded: set[fx.Node] = set()
        self._shapes: dict[fx.Node, torch.Size] = {}
        self._whole = whole

    def run(self, example: Tensor) -> fx.GraphModule:
        from torch.fx.passes.shape_prop import ShapeProp

        ShapeProp(fx.GraphModule(self._whole, self._source)).propagate(example.repeat(self._time_steps(), 1, 1, 1))
        for node in self._source.nodes:
            self._convert(node)
        return fx.GraphModule(self._root, self._graph)

    def _time_steps(self) -> int:
        return next((m.time_steps for m in self._modules.values() if isinstance(m, LIF)), 1)

    def _convert(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._made[node] = self._graph.placeholder(node.name)
        elif node.op == "output":
            self._graph.output(self._made[node.args[0]])  # type: ignore[index]
        elif node.op == "call_module":
            self._convert_layer(node, str(node.target), self._modules[str(node.target)])
        elif node.target is operator.add or node.target is torch.add:
            self._made[node] = self._graph.call_function(operator.add, tuple(self._made[each] for each in node.all_input_nodes))
        elif node.target == "mean":
            self._pool(node, 1)
        elif node.target is nn.functional.adaptive_avg_pool2d:
            self._pool(node, int(node.args[1]), flatten=False)  # type: ignore[arg-type]
        elif node.target == "flatten":
            self._flatten(node)
        else:
            raise ConfigError(f"NIR cannot express the operation {node.name!r} ({node.target})")

    def _convert_layer(self, node: fx.Node, path: str, module: nn.Module) -> None:
        from spikingjelly.activation_based import layer

        source = node.all_input_nodes[0]
        if node in self._folded or isinstance(module, nn.Identity | nn.Dropout):
            self._made[node] = self._made[source]
        elif isinstance(module, nn.Conv2d):
            self._add(node, path, self._convolution(node, path, module))
        elif isinstance(module, nn.Linear):
            linear = layer.Linear(module.in_features, module.out_features, module.bias is not None, step_mode="m")
            linear.load_state_dict(module.state_dict(), assign=True)
            self._add(node, path, linear)
        elif isinstance(module, LIF):
            self._add(node, path, _neuron(path, module))
        elif isinstance(module, nn.AvgPool2d) and self._divides(source, module):
            self._add(node, path, layer.AvgPool2d(module.kernel_size, module.stride, module.padding, step_mode="m"))
        else:
            raise _refusal(path, type(module).__name__)

    def _convolution(self, node: fx.Node, path: str, module: nn.Conv2d) -> nn.Module:
        from spikingjelly.activation_based import layer

        if module.groups != 1 or module.padding_mode != "zeros":
            raise _refusal(path, f"Conv2d of {module.groups} groups, padding {module.padding_mode!r}")
        following = list(node.users)
        norm = self._modules.get(str(following[0].target)) if len(following) == 1 and following[0].op == "call_module" else None
        if isinstance(norm, nn.BatchNorm2d):
            module = fuse_conv_bn_eval(module, norm)
            self._folded.add(following[0])
        convolution = layer.Conv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            bias=module.bias is not None,
            step_mode="m",
        )
        convolution.load_state_dict(module.state_dict(), assign=True)
        return convolution

    def _divides(self, source: fx.Node, pool: nn.AvgPool2d) -> bool:
        """Return whether the output size needs no rounding up, which NIR cannot express."""
        kernel, stride = pool.kernel_size, pool.stride
        sizes = source.meta["tensor_meta"].shape[-2:]
        return not pool.ceil_mode or (kernel == stride and all(size % int(stride) == 0 for size in sizes))  # type: ignore[arg-type]

    def _pool(self, node: fx.Node, size: int, *, flatten: bool = True) -> None:
        """Average the whole map down to `size` x `size`."""
        from spikingjelly.activation_based import layer

        source = node.all_input_nodes[0]
        height, width = source.meta["tensor_meta"].shape[-2:]
        if height % size or width % size:
            raise ConfigError(f"NIR cannot express pooling a {height}x{width} map to {size}x{size}")
        self._add(node, "pool", layer.AvgPool2d((height // size, width // size), step_mode="m"))
        if flatten:
            self._flatten(node, self._made[node])

    def _flatten(self, node: fx.Node, source: fx.Node | None = None) -> None:
        from spikingjelly.activation_based import layer

        self._root.add_module("flatten", layer.Flatten(step_mode="m"))
        self._made[node] = self._graph.call_module("flatten", (source or self._made[node.all_input_nodes[0]],))

    def _add(self, node: fx.Node, path: str, module: nn.Module) -> None:
        name = _name(path)
        self._root.add_module(name, module)
        self._made[node] = self._graph.call_module(name, (self._made[node.all_input_nodes[0]],))


def _neuron(path: str, module: LIF) -> nn.Module:
    from spikingjelly.activation_based import neuron

    config = module.neuron
    if config.reset != "hard":
        raise _refusal(path, "a neuron with soft reset")
    if not config.spike_at_threshold:
        raise _refusal(path, "a neuron that fires only above its threshold; SpikingJelly's neurons fire at it, too")
    if config.decay <= 0:
        raise _refusal(path, "a neuron without memory (decay 0)")
    known: dict[str, Any] = {"v_threshold": config.threshold, "v_reset": 0.0, "decay_input": False}
    return neuron.LIFNode(tau=1 / (1 - config.decay), step_mode="m", **known)


def _refusal(path: str, what: str) -> ConfigError:
    return ConfigError(f"NIR cannot express layer {path.removeprefix('network.')!r}: {what}")


def _name(path: str) -> str:
    return path.removeprefix("network.").replace(".", "_")
