"""A step as one CUDA graph: the host launches the whole update at once instead of some hundred kernels.

A capture freezes all values that are not tensors: a loss that reads the number of the step would see that of the capture for
ever. So the graph is tested before it is used: it is captured as of the step before, is then run for the step whose update was
calculated without it, and is used only if both come out the same. Otherwise training goes on without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spikedistill.train.distributed import World
from spikedistill.train.objective import Batch
from spikedistill.train.step.update import Update

log = logging.getLogger(__name__)

State = dict[str, list[Tensor]]
"""What an update changes, by kind; differences are reported for each kind separately."""

WARM_UP = 3
"""Steps before the capture, in which optimizers make their state and cuDNN chooses its algorithms."""
WARM_UP_OF_RANKS = 11
"""The same with DDP, as torch requires: DDP rebuilds its buckets, and times some steps."""
SAME_UPDATE = 0.05
"""Two updates count as equal up to this difference, as a share of the update: gradients are summed in varying order."""
SAME_METRIC = 0.01
"""Two losses or gradient norms count as equal up to this relative difference."""


class GraphedUpdate:
    """Updates the weights by a CUDA graph, once it has captured one; before, and where that is impossible, without."""

    def __init__(self, update: Update, world: World, reseed: Callable[[Batch], None]) -> None:
        """Capture nothing yet.

        Args:
            update: what is captured.
            world: the ranks, which take every decision together.
            reseed: seeds torch's generators for the step of a batch.
        """
        self._update, self._world, self._reseed = update, world, reseed
        self._waits = WARM_UP if world.world_size == 1 else WARM_UP_OF_RANKS
        self._is_refused = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: Batch
        self._metrics: dict[str, Tensor]
        self._before: Batch

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Update the weights; the metrics are overwritten by the next step."""
        if self._graph is not None:
            return self._replay(self._graph, batch)
        if self._is_refused:
            return self._update(batch)
        if self._waits == 0:
            return self._try(batch)
        self._waits -= 1
        self._before = batch
        return self._update(batch)

    def _replay(self, graph: torch.cuda.CUDAGraph, batch: Batch) -> dict[str, Tensor]:
        for own, given in zip(_tensors(self._static), _tensors(batch), strict=True):
            own.copy_(given, non_blocking=True)
        if isinstance(self._static.share, Tensor):
            self._static.share.fill_(batch.share)
        graph.replay()
        return self._metrics

    def _try(self, batch: Batch) -> dict[str, Tensor]:
        """Update the weights without a graph, then capture one and compare."""
        before = _copies(self._state())
        metrics = self._update(batch)
        expected = _copies(self._state())
        reason = self._capture()
        if reason is None:
            _restore(self._state(), before)
            self._update.objective.prepare(batch)
            self._reseed(batch)
            assert self._graph is not None
            found = self._replay(self._graph, batch)
            reason = _metric_difference(metrics, found) or _state_difference(before, expected, self._state())
        if any(self._world.all_reduce_max([reason is not None])):
            self._graph, self._is_refused = None, True
            log.warning(
                "engine.cuda_graph: this training step cannot be one CUDA graph (%s); it runs without",
                reason or "another rank says why",
            )
        else:
            log.info("the training step runs as one CUDA graph from here on")
        _restore(self._state(), expected)  # what the graph has found may differ by rounding
        return metrics

    def _capture(self) -> str | None:
        """Capture the update as of the step before; return why it is impossible, or None."""
        before = self._before
        del self._before  # else its tensors would stay in memory as long as training runs
        self._static = _static_copy(before)
        self._update.objective.prepare(before)
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(before.inputs.device)
        problem = None
        try:
            # other threads prepare batches meanwhile, which must not disturb the capture
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._metrics = self._update(self._static)
        except RuntimeError as err:
            problem = str(err).strip().partition("\n")[0]
        if not any(self._world.all_reduce_max([problem is not None])):
            self._graph = graph
            return None
        return problem or "another rank says why"

    def _state(self) -> State:
        """Return everything that an update changes."""
        update = self._update
        optimizer = [value for state in update.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        networks = [update.model] if update.average is None else [update.model, update.average.network]
        buffers = [buffer for network in networks for buffer in network.buffers()]
        return {
            "weights": [parameter for network in networks for parameter in network.parameters()],
            "running statistics": [buffer for buffer in buffers if not _is_counter(buffer)],
            "state of the optimizer": [value for value in optimizer if not _is_counter(value)],
            "counters": [value for value in (*buffers, *optimizer) if _is_counter(value)],
        }


def _tensors(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch that differ from step to step, in a fixed order."""
    return [tensor for tensor in (batch.inputs, batch.labels, batch.partners, batch.keys) if tensor is not None]


def _static_copy(batch: Batch) -> Batch:
    """Return a batch whose tensors keep their place in memory; the share of mixed samples is a tensor, too."""
    return replace(
        batch,
        inputs=batch.inputs.clone(),
        labels=batch.labels.clone(),
        partners=None if batch.partners is None else batch.partners.clone(),
        share=1.0 if batch.partners is None else torch.tensor(float(batch.share), device=batch.inputs.device),
        keys=None if batch.keys is None else batch.keys.clone(),
    )


def _is_counter(tensor: Tensor) -> bool:
    return tensor.dim() == 0


def _copies(state: State) -> State:
    return {kind: [tensor.detach().clone() for tensor in tensors] for kind, tensors in state.items()}


@torch.no_grad()
def _restore(state: State, values: State) -> None:
    for kind, tensors in state.items():
        for own, value in zip(tensors, values[kind], strict=True):
            own.copy_(value)


def _metric_difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str | None:
    """Return which metric of the graph's update differs, or None; waits for the device."""
    for name, value in expected.items():
        if not torch.isclose(found[name].double(), value.double(), rtol=SAME_METRIC, atol=SAME_METRIC, equal_nan=True):
            return f"{name} is {float(found[name]):.6g} instead of {float(value):.6g}"
    return None


def _state_difference(before: State, expected: State, found: State) -> str | None:
    """Return what the graph's update changes differently, or None; waits for the device."""
    for kind, tensors in expected.items():
        if not tensors:
            continue
        moved, apart = _distance(tensors, before[kind]), _distance(tensors, found[kind])
        if not apart <= SAME_UPDATE * moved:
            return f"it changes the {kind} otherwise than it should: they differ by {apart:.3g} after a change of {moved:.3g}"
    return None


def _distance(a: list[Tensor], b: list[Tensor]) -> float:
    return float(torch.stack([torch.dist(x.detach().double(), y.detach().double()) for x, y in zip(a, b, strict=True)]).norm())
