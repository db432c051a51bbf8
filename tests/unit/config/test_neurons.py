"""Neurons and encodings in the configuration: what is refused before anything runs, sweeps, ids and recorded code."""

import copy

import pytest

from spikedistill import plugins
from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.project.new import new_component

TRAIN = {"epochs": 1, "batch_size": 8}
BASE = {
    "experiments": {
        "one": {
            "dataset": {"name": "digits"},
            "student": {"arch": "resnet8", "time_steps": 2, "train": TRAIN},
            "methods": {"ce": {}},
        }
    }
}


def config(dataset=None, **student):
    values = copy.deepcopy(BASE)
    values["experiments"]["one"]["student"] |= student
    if dataset:
        values["experiments"]["one"]["dataset"] = dataset
    return values


def student_of(values):
    return next(spec for spec in build_plan(parse_config(values)).stages.values() if spec.stage == "distill")


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"neuron": {"name": "plfi"}}, "student.neuron: unknown neuron 'plfi'. Did you mean 'plif'? Allowed: alif"),
        (
            {"neuron": {"name": "spikingjelly/QIFnode"}},
            "student.neuron: unknown spikingjelly neuron 'QIFnode'. Did you mean 'QIFNode'",
        ),
        (
            {"neuron": {"name": "spikingjelly/PSN"}},
            "student.neuron: spikingjelly/PSN cannot be the neuron of a student: it sees all",
        ),
        ({"neuron": "plif"}, "student.neuron: a section is expected: {name: plif}"),
        (
            {"neuron": {"name": "plif", "params": {"decay_inputs": True}}},
            "student.neuron.params.decay_inputs: unknown key 'decay_inputs'. Did you mean 'decay_input'",
        ),
        (
            {"neuron": {"name": "spikingjelly/QIFNode", "params": {"backend": "cupy"}}},
            "student.neuron.params.backend: neurons of SpikingJelly 2 are computed by PyTorch on every device",
        ),
        (
            {"neuron": {"name": "ilif", "surrogate": "triangle"}},
            "student.neuron.surrogate: has no effect on 'ilif', which uses decay, detach_reset, threshold",
        ),
        ({"neuron": {"name": "plif", "decay": 0}}, "student.neuron.decay: must be above 0 for plif"),
        ({"neuron": {"params": {"beta": 1}}}, "student.neuron.params.beta: unknown key 'beta'"),
        (
            {"neuron": {"name": "alif"}, "backward": "rate"},
            "student.backward: neuron 'alif' has no rate-based backward pass, as lif does: set it to bptt",
        ),
        (
            {"encoding": "latency", "backward": "rate"},
            "student.encoding: latency spikes have the same mean over time for every image",
        ),
        ({"encoding": "rate"}, "student.encoding: input should be 'direct', 'poisson' or 'latency'"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(student, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(config(**student))
    assert message in str(caught.value)


def test_event_frames_have_their_own_time():
    dataset = {"name": "digits-dvs", "params": {"num_frames": 2}}
    with pytest.raises(ConfigError, match=r"student\.encoding: poisson is for images; event frames have their own time"):
        parse_config(config(dataset, arch="resnet8_dvs", encoding="poisson"))


def test_a_common_key_at_its_default_is_no_mistake():
    assert student_of(config(neuron={"name": "ilif", "surrogate": "sigmoid", "reset": "hard"})).neuron.name == "ilif"


def test_names_and_parameters_can_be_swept():
    neurons = {"name": ["lif", "plif"], "threshold": [0.5, 1.0]}
    found = [s.neuron for s in build_plan(parse_config(config(neuron=neurons))).stages.values() if s.stage == "distill"]
    assert [(n.name, n.threshold) for n in found] == [("lif", 0.5), ("lif", 1.0), ("plif", 0.5), ("plif", 1.0)]
    swept = config(neuron={"name": "ilif", "params": {"most_spikes": [2, 4]}}, encoding=["direct", "latency"])
    found = [s for s in build_plan(parse_config(swept)).stages.values() if s.stage == "distill"]
    assert len({s.ref for s in found}) == 4
    assert {s.encoding for s in found} == {"direct", "latency"}


def test_the_default_written_out_is_the_same_student():
    plain = student_of(config())
    written = student_of(config(neuron={"name": "lif", "params": {}}, encoding="direct"))
    assert (written.ref, written.code) == (plain.ref, {})
    alif = student_of(config(neuron={"name": "alif"}))
    assert student_of(config(neuron={"name": "alif", "params": {"beta": 1.8}})).ref == alif.ref
    assert len({plain.ref, alif.ref, student_of(config(neuron={"name": "alif", "params": {"beta": 1}})).ref}) == 3
    assert student_of(config(encoding="poisson")).ref != plain.ref


def test_ids_hold_every_argument_of_a_neuron_of_spikingjelly():
    spec = student_of(config(neuron={"name": "spikingjelly/QIFNode", "params": {"tau": 3}}))
    assert spec.neuron.params["tau"] == 3.0 and spec.neuron.params["v_c"] == 0.8
    assert "spikedistill.neurons.kinds.spikingjelly" in spec.modules


def test_the_code_of_a_neuron_of_a_plug_in_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / f"neurons_of_{tmp_path.name}".replace("-", "_")
    try:
        file = new_component("neuron", "mine", folder)
        values = config(neuron={"name": "mine", "params": {"current_decay": 0.25}}) | {"plugins": [f"./{folder.name}"]}
        spec = student_of(values)
        assert set(spec.code) == {f"{folder.name}.neurons.mine"}
        assert file == folder / "neurons" / "mine.py"
        assert student_of(config()).code == {}
    finally:
        plugins.activate([])
