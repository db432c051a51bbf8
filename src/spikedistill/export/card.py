"""The model card of an exported network, in Markdown. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.report.tables.columns import MEASURES, Column, robustness_columns
from spikedistill.store.provenance import commit_of

_LIMITS = """\
- Measured only on the test split of {dataset}; nothing is known about other data.
- Energy is that of the arithmetic at the synapses{constants}, without memory access: it serves to compare networks and does not
  predict the consumption of a chip.
- Trained in floating point; nothing was quantised."""

_NIR = """\

## NIR

`model.nir` holds the network for neuromorphic back ends, in float64. Batch normalisation is folded into the convolutions, average
pooling into the layer after it. Its input is one frame per time step of 0.1 ms ({input_hint}); the prediction is the mean of its
output over the {time_steps} steps. Resistances are 1; to this end, the potentials and thresholds of the student are multiplied by
{scale}.

A neuron of SpikingJelly or spikedistill fires when its potential reaches the threshold; a neuron of the NIR specification, of
snnTorch and of norse fires when its potential exceeds the threshold.

| reader | how it reads the graph |
|---|---|
| SpikingJelly 2.0 | the same spikes, to the last bit with `dtype=torch.float64` |
| snnTorch 1.0 | the same spikes but for rounding to float32; the neurons keep their state: import the graph anew for each batch |
| norse 1.1 | the same spikes but for rounding to float32, with its layers put together as below; its own `from_nir` runs the \
layers of a network with shortcuts in the wrong order |

```python
from spikingjelly.activation_based.nir_exchange import import_from_nir

network = import_from_nir("model.nir", step_mode="m")
logits, state = network(frames)  # frames [T, B, C, H, W]
```

```python
import nir
import torch
from snntorch.import_nir import import_from_nir

network = import_from_nir(nir.read("model.nir"))
logits = torch.stack([network(frame)[0] for frame in frames])
```

```python
import nir
import nirtorch
import torch
from norse.torch.utils.import_nir import _import_norse_module

kinds = nir.Affine, nir.Conv2d, nir.Flatten, nir.LIF, nir.Linear
network = nirtorch.nir_to_torch("model.nir", {{kind: lambda node: _import_norse_module(node, dt=1e-4) for kind in kinds}})
logits, state = [], None
for frame in frames:
    output, state = network(frame, state)
    logits.append(output)
logits = torch.stack(logits)
```
"""


def model_card(
    ref: str,
    about: Mapping[str, Any],
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    *,
    folder: str,
    nir: bool,
) -> str:
    """Return the text of the model card of a network.

    Args:
        ref: reference of the network in the store.
        about: content of model.json.
        manifest: manifest of its artifact.
        evaluation: content of evaluation.json; None if it has not been evaluated.
        folder: name of the exported folder.
        nir: True if the folder holds a NIR graph, too.
    """
    spec, name = about["spec"], ref.partition("/")[2]
    is_student = about["role"] == "student"
    what = f"a spiking network ({_spiking(about)})" if is_student else "a non-spiking network"
    how = f"trained by `{spec['method']}`" if is_student else "trained by cross-entropy, as a teacher"
    if spec.get("weights"):
        origin = f"a checkpoint of sha256 {spec['weights'][:12]}…"
        how = f"imported from {origin}" if spec["train"] is None else f"{how}, from {origin}"
    teacher = spec.get("teacher")
    front = {
        "library_name": "spikedistill",
        "tags": ["spiking-neural-network", "knowledge-distillation"],
        "datasets": [spec["dataset"]],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {name}\n",
        f"`{about['arch']}`, {what}, {how} on `{spec['dataset']}`" + (f" from the teacher `{teacher}`.\n" if teacher else ".\n"),
        f"## Load\n\n{_needed(about)}```python\n{_use_plugins(about)}network = load({folder!r})\n{_example(about)}```\n",
        f"## Input and output\n\n{_input(about)}\n\nClasses, in order: {', '.join(map(str, about['class_names']))}.\n",
        f"## Results\n\n{_results(evaluation)}\n",
        f"## Limits\n\n{_LIMITS.format(dataset=spec['dataset'], constants=_constants(evaluation))}\n",
        f"## How it was made\n\n{_origin(ref, manifest)}\n\n```yaml\n{yaml.safe_dump(dict(spec), sort_keys=False)}```\n",
    ]
    if nir:
        hint = _encoded(spec) if about["input"]["kind"] == "images" else "the counts of an event frame"
        parts.append(_NIR.format(input_hint=hint, time_steps=about["time_steps"], scale=_scale(about["neuron"])).lstrip("\n"))
    return "\n".join(parts)


def _spiking(about: Mapping[str, Any]) -> str:
    """Return what distinguishes a spiking network: its time steps, its neurons if they are not the default, its input."""
    neuron, encoding = about["neuron"], about["spec"].get("encoding", "direct")
    parts = [f"{about['time_steps']} time steps"]
    if (name := neuron.get("name", "lif")) != "lif":
        params = ", ".join(f"{key} {value}" for key, value in neuron.get("params", {}).items() if value is not None)
        parts.append(f"`{name}` neurons" + (f" with {params}" if params else ""))
    if encoding != "direct":
        parts.append(f"images as {encoding} spikes")
    return ", ".join(parts)


def _encoded(spec: Mapping[str, Any]) -> str:
    encoding = spec.get("encoding", "direct")
    return "a static image is repeated" if encoding == "direct" else f"the {encoding} spikes of an image, by its `encoder`"


def _scale(neuron: Mapping[str, Any]) -> str:
    """Return the factor between the potentials of a student and those of its NIR graph, in words."""
    if neuron.get("name", "lif") != "lif":
        return "1 - decay, with the decay that each layer has learnt"
    return f"{1 - neuron['decay']:g}, that is 1 - decay"


def _needed(about: Mapping[str, Any]) -> str:
    """Return what a reader has to have besides spikedistill."""
    if not about["plugins"]:
        return ""
    names = ", ".join(f"`{name}`" for name in about["plugins"])
    return f"Part of its code is in {names}, a plug-in: it has to be there, as it was when the network was trained.\n\n"


def _use_plugins(about: Mapping[str, Any]) -> str:
    """Return the first lines of the code that loads the network."""
    if not about["plugins"]:
        return "from spikedistill.export import load\n\n"
    names = ", ".join(map(repr, about["plugins"]))
    return f"import spikedistill\nfrom spikedistill.export import load\n\nspikedistill.use_plugins({names})\n"


def _example(about: Mapping[str, Any]) -> str:
    if about["role"] == "teacher":
        return "prediction = network(inputs).logits.argmax(-1)  # logits [B, classes]\n"
    return "prediction = network(inputs).logits.mean(0).argmax(-1)  # logits [T, B, classes]\n"


def _input(about: Mapping[str, Any]) -> str:
    given, inputs = about["input"], about["spec"]["inputs"]
    stored, size = " x ".join(map(str, given["stored"])), " x ".join(map(str, given["size"]))
    steps = [f"`{key}: {inputs[key]}`" for key in ("center_crop", "resize") if inputs[key]]
    made = f"a sample, prepared as {stored}, becomes {size}" + (f" by {', '.join(steps)}" if steps else "")
    if given["kind"] == "images":
        mean, std = (", ".join(f"{value:g}" for value in given[key]) for key in ("mean", "std"))
        return f"Images as float32 [B, C, H, W] in [0, 1], minus the mean ({mean}), divided by ({std}); {made}."
    return f"Event frames as float32 [T, B, 2, H, W], `encoding: {inputs['encoding']}` of ON and OFF events; {made}."


def _constants(evaluation: Mapping[str, Any] | None) -> str:
    """Return what an operation costs in the results."""
    if evaluation is None:
        return ""
    model = EnergyConfig.model_validate(evaluation.get("energy_model", {}))
    process = ", as in a 45 nm process (Horowitz 2014)" if model == EnergyConfig() else ""
    return f" at {model.pj_per_mac:g} pJ per multiply-accumulate and {model.pj_per_ac:g} pJ per addition{process}"


def _results(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "Not measured."
    lines = ["| quantity | value |", "|---|---|", f"| test samples | {evaluation['num_samples']} |"]
    columns = (*MEASURES, *robustness_columns([dict(evaluation)]))
    lines += [f"| {column.header} | {text} |" for column in columns if (text := _value(column, evaluation))]
    if evaluation.get("accuracy_at_step"):
        steps = ", ".join(f"{100 * value:.2f}" for value in evaluation["accuracy_at_step"])
        lines.append(f"| accuracy after 1, 2, … steps (%) | {steps} |")
    return "\n".join(lines)


def _value(column: Column, evaluation: Mapping[str, Any]) -> str | None:
    if evaluation["role"] == "teacher" and column.students_only:
        return None
    value = column.read(dict(evaluation))
    if value is None:
        return None
    return f"{value * column.factor:.{column.digits}f}" + (" per sample" if column.per_sample else "")


def _origin(ref: str, manifest: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in manifest["packages"].items())
    return (
        f"Artifact `{ref}`, made {manifest['created']} on {manifest['device']} with spikedistill "
        f"{manifest['spikedistill']['version']} (commit {commit_of(manifest)}), Python {manifest['python']}, {packages}."
    )
