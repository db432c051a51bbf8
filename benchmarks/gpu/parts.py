"""The parts of the battery, in the order of what matters most on a GPU that is lent for minutes. Imports no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

STEP = "benchmarks/train_step.py"
FASTER = {"fuse": "fuse=true", "graph": "cuda_graph=true", "compile": "compile=true"}
"""Options of the engine, by their names in the figures."""

PACKAGES = (
    "torch",
    "numpy",
    "pydantic",
    "yaml",
    "PIL",
    "scipy",
    "safetensors",
    "spikingjelly",
    "tabulate",
    "tqdm",
    "torchvision",
)
SHORT_STEP = ("--repeats", "1", "--warmup", "1", "--block", "6", "--batch-size", "2")


@dataclass(frozen=True)
class Command:
    """One program of a part; it writes its figures to the file that `--out` names, unless it is pytest.

    Attributes:
        name: what its figures are called.
        script: what Python runs.
        arguments: of the script.
        short: further arguments that make it show that it runs, not how fast.
        environment: variables that it sets.
    """

    name: str
    script: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    short: tuple[str, ...] = ("--short",)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def has_figures(self) -> bool:
        """Whether it writes a file of figures."""
        return self.script[0] != "-m"

    def line(self, out: Path, *, short: bool) -> list[str]:
        """Return its command line."""
        figures = ["--out", str(out)] if self.has_figures else []
        return [sys.executable, *self._words(short=short), *figures]

    def shown(self, *, short: bool) -> str:
        """Return its command line as one would type it."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*variables, "python", *self._words(short=short)])

    def _words(self, *, short: bool) -> tuple[str, ...]:
        return (*self.script, *self.arguments, *(self.short if short else ()))


@dataclass(frozen=True)
class Part:
    """Commands that run one after the other, in less than ten minutes.

    Attributes:
        name: what it is called in `--parts`.
        about: what it shows.
        minutes: after which it is stopped; the figures of commands that ended are kept.
        commands: what it runs.
        needs: Python packages that have to be there.
    """

    name: str
    about: str
    minutes: float
    commands: tuple[Command, ...]
    needs: tuple[str, ...] = PACKAGES


def _step(name: str, options: tuple[str, ...] = (), *more: str, batch: int = 128, precision: str = "bf16") -> Command:
    """Return the benchmark of training steps with some options of the engine; each compares with the reference-style step."""
    engine = ("--engine", *(FASTER[option] for option in options)) if options else ()
    arguments = ("--device", "cuda", "--precision", precision, "--batch-size", str(batch), *engine, *more)
    return Command(name, (STEP,), ("--repeats", "4", "--warmup", "2", *arguments), SHORT_STEP)


def _lif(name: str, implementation: str, *dtypes: str) -> Command:
    """Return the benchmark of LIF neurons beside one implementation of SpikingJelly's."""
    arguments = ("--device", "cuda", "--dtype", *dtypes)
    return Command(
        name, ("benchmarks/lif.py",), arguments, ("--short", "--batch-size", "2"), {"SJ_LIF_CUDA_IMPLEMENTATION": implementation}
    )


BOTH = ("fuse", "graph")

PARTS = (
    Part(
        "tests",
        "the tests of what runs on a GPU: kernels against plain operations, CPU against CUDA, ranks, resumption",
        9,
        (Command("tests", ("-m", "pytest"), ("-q", "-p", "no:cacheprovider", "tests/gpu"), ("-m", "not slow", "-x")),),
        (*PACKAGES, "pytest"),
    ),
    Part(
        "step-128",
        "a training step of ResNet-18 with 128 images, T 4, beside the reference-style step: time, parts, memory",
        9,
        (_step("plain"), _step("fuse and graph", BOTH)),
    ),
    Part(
        "constants",
        "rates of convolutions and copies, time of a launch: what estimates calculate with",
        5,
        (Command("constants", ("benchmarks/gpu_constants.py",)),),
    ),
    Part(
        "lif",
        "LIF neurons against copy bandwidth, beside SpikingJelly's in Triton and in CUDA",
        9,
        (_lif("auto", "auto", "float32", "bfloat16"), _lif("triton", "triton", "float32"), _lif("cuda", "cuda", "float32")),
    ),
    Part(
        "step-16",
        "the step with 16 images, as on each of 8 GPUs: what launches cost, and what a CUDA graph saves",
        9,
        (_step("plain", batch=16), _step("graph", ("graph",), batch=16), _step("fuse and graph", BOTH, batch=16)),
    ),
    Part(
        "options",
        "the step with 128 images and each option of the engine alone, and in float32",
        9,
        (
            _step("fuse", ("fuse",)),
            _step("graph", ("graph",)),
            _step("compile", ("compile",)),
            _step("float32", precision="float32"),
        ),
    ),
    Part(
        "rate",
        "the step with rate-based backpropagation",
        9,
        (_step("plain", (), "--backward", "rate"), _step("graph", ("graph",), "--backward", "rate")),
    ),
    Part(
        "imagenet",
        "a pre-activation ResNet-34 on 224x224, T 4, 32 images",
        9,
        (
            _step("plain", (), "--config", "imagenet-preact34", batch=32),
            _step("fuse and graph", BOTH, "--config", "imagenet-preact34", batch=32),
        ),
    ),
)
