"""Rebuilds a student from SpikingJelly's layers, in a form that SpikingJelly's exchange turns into a portable NIR graph.

The network is traced, batch normalisation is folded into the convolution before it, and SpikingJelly's layers replace all others.
A layer that NIR or the exchange cannot express is refused by name. Weights are float64, so that rounding when folding changes no
spike.

The graph can also be read by snnTorch and norse, which support only part of NIR:
- A neuron has the resistance r = 1, all that norse reads: its potential and threshold are those of the student times 1 - decay.
  A neuron that learns its decay becomes the LIF neuron with the learnt decay.
- Average pooling, which norse does not read, is folded into the convolution or linear layer after it, where there is one.
- Dimensions to flatten are counted from the end, so that they mean the same with and without those of time and batch.
- The padding of a pooling is a pair, never a single number.

Letters: T step, B batch, C channel, H and W size of a map, K class.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikedistill.errors import ConfigError
from spikedistill.models import Student
from spikedistill.models.network import Network
from spikedistill.neurons.neuron import SpikingNeuron


class _Whole(nn.Module):
    """A network from the input of one time step to its logits, for tracing."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.classify(self.network.last_features(self.network.encode(x)))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SpikingNeuron | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def to_spikingjelly(student: Student, example: Tensor) -> fx.GraphModule:
    """Rebuild a student from SpikingJelly's layers, which work on [T, B, ...].

    Args:
        student: the student, in evaluation mode.
        example: one step of one sample [1, C, H, W], in the dtype of the student.

    Raises:
        ConfigError: if the exchange has no node for a layer, with the name of the first such layer.
    """
    return _Conversion(_Whole(student.network)).run(example)


@dataclasses.dataclass(frozen=True)
class _Value:
    """The output of a traced layer: that of a node of the new graph, then poolings and a flattening that are not in it yet."""

    node: fx.Node
    size: tuple[int, int] = (1, 1)  # H and W of the output of `node`, if `pools` are to come
    pools: tuple[nn.Module, ...] = ()  # average poolings
    flat: bool = False

    def pooling_factor(self) -> int | None:
        """Return the side of the squares that are averaged; None if the map is not divided into equal squares."""
        factor = 1
        for pool in self.pools:
            if not isinstance(pool, nn.AvgPool2d) or pool.padding not in (0, (0, 0)):
                return None
            sides = {*_pair(pool.kernel_size), *_pair(pool.stride)}
            if len(sides) > 1:
                return None
            factor *= sides.pop()
        return None if any(side % factor for side in self.size) else factor


class _Conversion:
    """Walks the traced network once, layer by layer, and builds the network of SpikingJelly's layers."""

    def __init__(self, whole: _Whole) -> None:
        self._source = _Tracer().trace(whole)
        self._modules = dict(whole.named_modules())
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._values: dict[fx.Node, _Value] = {}
        self._folded: set[fx.Node] = set()
        self._whole = whole

    def run(self, example: Tensor) -> fx.GraphModule:
        from torch.fx.passes.shape_prop import ShapeProp

        ShapeProp(fx.GraphModule(self._whole, self._source)).propagate(example.repeat(self._time_steps(), 1, 1, 1))
        for node in self._source.nodes:
            if node.op == "output":
                self._graph.output(self._finished(node.args[0]))
            else:
                self._values[node] = self._convert(node)
        return fx.GraphModule(self._root, self._graph)

    def _time_steps(self) -> int:
        return next((m.time_steps for m in self._modules.values() if isinstance(m, SpikingNeuron)), 1)

    def _convert(self, node: fx.Node) -> _Value:
        if node.op == "placeholder":
            return _Value(self._graph.placeholder(node.name))
        if node.op == "call_module":
            return self._convert_layer(node, str(node.target), self._modules[str(node.target)])
        if node.target is operator.add or node.target is torch.add:
            terms = tuple(self._finished(each) for each in node.all_input_nodes)
            return _Value(self._graph.call_function(operator.add, terms))
        if node.target == "mean":
            return dataclasses.replace(self._pooled(node, nn.AdaptiveAvgPool2d(1)), flat=True)
        if node.target is nn.functional.adaptive_avg_pool2d:
            return self._pooled(node, nn.AdaptiveAvgPool2d(node.args[1]))  # type: ignore[arg-type]
        if node.target == "flatten":
            return dataclasses.replace(self._values[node.all_input_nodes[0]], flat=True)
        raise ConfigError(f"NIR cannot express the operation {node.name!r} ({node.target})")

    def _convert_layer(self, node: fx.Node, path: str, module: nn.Module) -> _Value:
        source = node.all_input_nodes[0]
        if node in self._folded or isinstance(module, nn.Identity | nn.Dropout):
            return self._values[source]
        if isinstance(module, nn.Conv2d):
            return self._convolution(node, path, module)
        if isinstance(module, nn.Linear):
            return self._linear(node, path, module)
        if isinstance(module, SpikingNeuron):
            return self._add(path, _neuron(path, module), self._finished(source))
        if isinstance(module, nn.AvgPool2d) and self._divides(source, module):
            return self._pooled(node, module)
        raise _refusal(path, type(module).__name__)

    def _convolution(self, node: fx.Node, path: str, module: nn.Conv2d) -> _Value:
        from spikingjelly.activation_based import layer

        if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise _refusal(path, f"Conv2d of {module.groups} groups, padding {module.padding_mode!r} {module.padding!r}")
        following = list(node.users)
        norm = self._modules.get(str(following[0].target)) if len(following) == 1 and following[0].op == "call_module" else None
        if isinstance(norm, nn.BatchNorm2d):
            module = fuse_conv_bn_eval(module, norm)
            self._folded.add(following[0])
        source = node.all_input_nodes[0]
        given, factor = self._values[source].node, self._values[source].pooling_factor()
        if factor is None or module.dilation != (1, 1):
            given, factor = self._finished(source), 1
        convolution = layer.Conv2d(
            module.in_channels,
            module.out_channels,
            [factor * side for side in module.kernel_size],  # type: ignore[arg-type]
            [factor * step for step in module.stride],  # type: ignore[arg-type]
            [factor * width for width in module.padding],  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            bias=module.bias is not None,
            step_mode="m",
        )
        weight = module.weight.repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2
        convolution.load_state_dict({**module.state_dict(), "weight": weight}, assign=True)
        return self._add(path, convolution, given)

    def _linear(self, node: fx.Node, path: str, module: nn.Linear) -> _Value:
        from spikingjelly.activation_based import layer

        value, weight = self._values[node.all_input_nodes[0]], module.weight
        if value.flat and value.pools:
            value, weight = dataclasses.replace(value, pools=()), _weight_before(value, weight)
        linear = layer.Linear(weight.shape[1], weight.shape[0], module.bias is not None, step_mode="m")
        linear.load_state_dict({**module.state_dict(), "weight": weight}, assign=True)
        return self._add(path, linear, self._finish(node, value))

    def _divides(self, source: fx.Node, pool: nn.AvgPool2d) -> bool:
        """Return whether the output size needs no rounding up, which NIR cannot express."""
        kernel, stride = pool.kernel_size, pool.stride
        return not pool.ceil_mode or (kernel == stride and all(side % int(stride) == 0 for side in _size(source)))  # type: ignore[arg-type]

    def _pooled(self, node: fx.Node, pool: nn.Module) -> _Value:
        source = node.all_input_nodes[0]
        value = self._values[source]
        return dataclasses.replace(value, size=value.size if value.pools else _size(source), pools=(*value.pools, pool))

    def _finished(self, source: fx.Node) -> fx.Node:
        """Return the node of the new graph with the whole output of a traced layer."""
        value = self._values[source]
        self._values[source] = _Value(self._finish(source, value))
        return self._values[source].node

    def _finish(self, source: fx.Node, value: _Value) -> fx.Node:
        from spikingjelly.activation_based import layer

        node, size = value.node, value.size
        for index, pool in enumerate(value.pools):
            kernel, stride, padding = _window(pool, size)
            node = self._add(f"{source.name}.pool{index}", layer.AvgPool2d(kernel, stride, padding, step_mode="m"), node).node
            size = (
                (size[0] + 2 * padding[0] - kernel[0]) // stride[0] + 1,
                (size[1] + 2 * padding[1] - kernel[1]) // stride[1] + 1,
            )
        if value.flat:
            node = self._add(f"{source.name}.flat", layer.Flatten(-3, -1, step_mode="m"), node).node
        return node

    def _add(self, path: str, module: nn.Module, given: fx.Node) -> _Value:
        name = _name(path)
        self._root.add_module(name, module)
        return _Value(self._graph.call_module(name, (given,)))


def _weight_before(value: _Value, weight: Tensor) -> Tensor:
    """Return the weight [K, C * H * W] of a linear layer before pooling, given that [K, C * h * w] of the one after it."""
    height, width = value.size
    pixels = torch.eye(height * width, dtype=weight.dtype).unflatten(1, (1, height, width))
    for pool in value.pools:
        pixels = pool(pixels)
    share = pixels.flatten(1)  # of each pixel in each result of pooling
    return (weight.unflatten(1, (-1, share.shape[1])) @ share.T).flatten(1)


def _window(pool: nn.Module, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return kernel, stride and padding of an average pooling of a map."""
    if isinstance(pool, nn.AvgPool2d):
        return _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
    side = int(pool.output_size)  # type: ignore[arg-type]
    if size[0] % side or size[1] % side:
        raise ConfigError(f"NIR cannot express pooling a {size[0]}x{size[1]} map to {side}x{side}")
    kernel = size[0] // side, size[1] // side
    return kernel, kernel, (0, 0)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _size(source: fx.Node) -> tuple[int, int]:
    height, width = source.meta["tensor_meta"].shape[-2:]
    return height, width


def _neuron(path: str, module: SpikingNeuron) -> nn.Module:
    from spikingjelly.activation_based import neuron

    config = module.equivalent_lif()
    if config is None:
        raise _refusal(path, f"a neuron {module.neuron.name!r}, which is no LIF neuron")
    if config.reset != "hard":
        raise _refusal(path, "a neuron with soft reset")
    if not config.spike_at_threshold:
        raise _refusal(path, "a neuron that fires only above its threshold; SpikingJelly's neurons fire at it, too")
    if config.decay <= 0:
        raise _refusal(path, "a neuron without memory (decay 0)")
    share = (
        1 - config.decay
    )  # of the input that SpikingJelly adds to the potential: the potential is scaled, and so is the threshold
    return neuron.LIFNode(tau=1 / share, decay_input=True, v_threshold=share * config.threshold, v_reset=0.0, step_mode="m")


def _refusal(path: str, what: str) -> ConfigError:
    return ConfigError(f"NIR cannot express layer {path.removeprefix('network.')!r}: {what}")


def _name(path: str) -> str:
    return path.removeprefix("network.").replace(".", "_")
