"""Neurons of SpikingJelly: `spikingjelly/QIFNode`. Their parameters are the arguments of their class.

They run in PyTorch, over all steps at once, and start at rest in every forward. The common keys of `neuron` have no effect.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, create_model, field_validator

from spikedistill.components import ComponentParams
from spikedistill.errors import ConfigError
from spikedistill.neurons.adapted.source import Argument, classes, surrogates
from spikedistill.neurons.settings import NeuronConfig

if TYPE_CHECKING:
    from spikedistill.neurons.adapted.layer import SpikingJellyNeuron

ZOO = "spikingjelly"

UNFIT = {
    "GatedLIFNode": "its output has another shape than its input behind linear layers",
    "DSRIFNode": "its spikes are as high as its threshold, not 1",
    "DSRLIFNode": "its spikes are as high as its threshold, not 1",
    "PSN": "it sees all steps at once, so that early predictions would depend on later input; SlidingPSN does not",
    "MaskedPSN": "it sees all steps at once until its mask is closed in the course of training; SlidingPSN never does",
    "OTTTLIFNode": "it is for online learning, step by step",
    "SLTTLIFNode": "it is for online learning, step by step",
    "MPBNLIFNode": "it needs the number of channels of each layer",
    "STBIFNode": "it is for converted networks, with a threshold for each layer",
}
"""Neurons that cannot be the layers of a student, and why. Others whose arguments are not plain values are not listed
either."""


def names() -> tuple[str, ...]:
    """Return the classes of the installed version that can be the neurons of a student."""
    return tuple(name for name in classes() if name not in UNFIT)


def component(name: str) -> Component:
    """Return a neuron in the form of a component's module.

    Raises:
        KeyError: if SpikingJelly has no neuron of that name, or one whose arguments are not plain values.
        ConfigError: if it cannot be the neuron of a student.
    """
    if name in UNFIT:
        raise ConfigError(f"spikingjelly/{name} cannot be the neuron of a student: {UNFIT[name]}")
    return _component(name)


class Component:
    """What the file of a neuron defines, for one of SpikingJelly's."""

    USES: frozenset[str] = frozenset()
    SUPPORTS: frozenset[str] = frozenset()

    def __init__(self, name: str, params: type[SpikingJellyParams]) -> None:
        """Take the class called `name`, with its arguments."""
        self.__name__ = f"{ZOO}/{name}"
        self.__doc__ = f"{name} of SpikingJelly; its parameters are the arguments of the class."
        self.Params = params
        self._class = name

    def build(self, neuron: NeuronConfig, params: SpikingJellyParams, time_steps: int) -> SpikingJellyNeuron:
        """Return a layer."""
        from spikedistill.neurons.adapted.layer import SpikingJellyNeuron

        return SpikingJellyNeuron(neuron, self._class, params.arguments(time_steps), params.surrogate, time_steps)


class SurrogateParams(ComponentParams):
    """A surrogate gradient of SpikingJelly."""

    name: str = Field(description="Class of spikingjelly.activation_based.surrogate, such as ATan.")
    alpha: float | None = Field(None, description="Its alpha; the default is the class's.")


class SpikingJellyParams(ComponentParams):
    """Arguments of SpikingJelly's class."""

    TAKES_STEPS: ClassVar[bool] = False

    surrogate_function: SurrogateParams | None = Field(None, description="Surrogate gradient; the default is the neuron's.")
    backend: Literal["torch"] = Field("torch", description="What computes it: PyTorch, on every device.")

    @field_validator("backend", mode="before")
    @classmethod
    def _is_there(cls, value: Any) -> Any:
        if value != "torch":
            raise ValueError("neurons of SpikingJelly 2 are computed by PyTorch on every device: leave it out, or say torch")
        return value

    @field_validator("surrogate_function")
    @classmethod
    def _is_known(cls, value: SurrogateParams | None) -> SurrogateParams | None:
        from spikedistill.components import unknown

        if value is not None and value.name not in surrogates():
            raise ValueError(unknown("surrogate gradient of SpikingJelly", value.name, surrogates()))
        return value

    @property
    def surrogate(self) -> dict[str, Any] | None:
        """The surrogate gradient as a mapping; None: the neuron's default."""
        return None if self.surrogate_function is None else self.surrogate_function.model_dump(exclude_none=True)

    def arguments(self, time_steps: int) -> dict[str, Any]:
        """Return the plain arguments of the class."""
        given = self.model_dump(exclude={"surrogate_function", "backend"})
        return given | ({"T": time_steps} if self.TAKES_STEPS else {})

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Dump every argument, even at its default, so that ids include it: another version may have other defaults."""
        return super().model_dump(**{**options, "exclude_defaults": False})


@functools.cache
def _component(name: str) -> Component:
    arguments = classes()[name]
    fields: dict[str, Any] = {argument.name: _field(name, argument) for argument in arguments if argument.name != "T"}
    model = create_model("Params", __base__=SpikingJellyParams, __doc__=f"Arguments of {name}.", **fields)
    model.TAKES_STEPS = any(argument.name == "T" for argument in arguments)
    return Component(name, model)


def _field(name: str, argument: Argument) -> tuple[Any, Any]:
    about = f"`{argument.name}` of SpikingJelly's {name}."
    return argument.type, Field(description=about) if argument.required else Field(argument.default, description=about)
