"""The methods of examples/logit-methods: what every method promises, and the equations of their README, on plain lists."""

import importlib.util
from math import log
from pathlib import Path

import pytest
import torch

from spikedistill import plugins
from spikedistill.contract.batches import random_inputs
from spikedistill.contract.check import check_plugin
from tests.unit.distill.straight_line import ce, divergence, mean_over_time, softmax, together

FOLDER = Path(__file__).parents[3] / "examples" / "logit-methods" / "plugins"


def hta_kl(batch, params):
    tau, result = params["temperature"], 0.0
    for z, a in together(mean_over_time(batch["logits"]), batch["teacher_logits"]):
        p, q = softmax(z, tau), softmax(a, tau)
        head, reached = set(), 0.0
        for c in sorted(range(len(q)), key=lambda c: -q[c]):
            if reached < params["head"]:
                head.add(c)
            reached += q[c]
        distances = [abs(own - its) for own, its in together(p, q)]
        weight = sum(distances[c] for c in head) / sum(distances)
        result += tau**2 * (weight * divergence(q, p) + (1 - weight) * divergence(p, q))
    return {**ce(batch, params), "hta": params["alpha"] * result / len(batch["labels"])}


def dkd(batch, params):
    tau, true, others = params["temperature"], 0.0, 0.0
    for z, a, y in together(mean_over_time(batch["logits"]), batch["teacher_logits"], batch["labels"]):
        p, q = softmax(z, tau), softmax(a, tau)
        true += tau**2 * divergence([q[y], 1 - q[y]], [p[y], 1 - p[y]])
        rest = [c for c in range(len(p)) if c != y]
        others += tau**2 * sum(q[c] / (1 - q[y]) * log(q[c] / (1 - q[y]) * (1 - p[y]) / p[c]) for c in rest)
    count = len(batch["labels"])
    return {**ce(batch, params), "tckd": params["alpha"] * true / count, "nckd": params["beta"] * others / count}


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / "distill" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("equations", [hta_kl, dkd], ids=["hta_kl", "dkd"])
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_terms_equal_the_equations(equations, num_steps, seed):
    method = load(equations.__name__)
    params = method.Params()
    inputs = random_inputs(method, {}, num_steps, largest=6.0, dtype=torch.float64, seed=seed)
    batch = {name: getattr(inputs, name).tolist() for name in ("logits", "labels", "teacher_logits")}
    terms = {key: term.item() for key, term in method.loss(inputs, params).items()}
    assert terms == pytest.approx(equations(batch, params.model_dump()), rel=0, abs=1e-9)


def test_both_parts_of_decoupled_distillation_make_the_divergence_of_all_classes():
    module, generator = load("dkd"), torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2])
    p, q = logits.softmax(-1), teacher.softmax(-1)
    whole = 0.0
    for row in range(4):
        parts = module.decoupled(logits[[row]], teacher[[row]], labels[[row]], 1.0)
        whole = parts["tckd"] + (1 - q[row, labels[row]]) * parts["nckd"]
        assert whole.item() == pytest.approx((q[row] * (q[row] / p[row]).log()).sum().item(), rel=1e-12)


@pytest.mark.slow
def test_they_keep_every_promise_of_a_method(monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    try:
        plugins.activate(["./plugins"])
        (source,) = [source for source in plugins.sources() if source.folder == FOLDER]
        findings = list(check_plugin(source))
    finally:
        plugins.activate([])
    assert {finding.component for finding in findings} == {"method dkd", "method hta-kl"}
    assert [finding for finding in findings if finding.problem] == []
