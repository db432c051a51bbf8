"""The update of the weights that a step consists of: forward, loss, backward, optimizer."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spikedistill.errors import ConfigError
from spikedistill.models import ModelOutput
from spikedistill.neurons.rate import ONE_VALUE
from spikedistill.train.averaging import Average
from spikedistill.train.network.encoding import give_keys
from spikedistill.train.objective import Batch, Objective
from spikedistill.train.settings import TrainConfig


@dataclass(frozen=True)
class Update:
    """Updates the weights once per call. What differs from step to step comes with the batch, and as tensors.

    Attributes:
        model: the network.
        replica: what is called in training: the network itself, or its DDP wrapper.
        objective: the loss to minimise.
        optimizer: of the network's parameters.
        average: the averaged weights that follow the network's; None if there are none.
        config: the recipe.
        accumulate: number of parts that the batch is processed in.
    """

    model: nn.Module
    replica: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    average: Average | None
    config: TrainConfig
    accumulate: int

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Update the weights; return the metrics of the step as tensors on the device, without waiting for them."""
        self.optimizer.zero_grad(set_to_none=True)
        metrics: dict[str, Tensor] = {}
        parts = batch.split(self.accumulate)
        for part in parts:
            give_keys(self.model, part.keys)
            with self._gradient_sync(part is parts[-1]):
                with torch.autocast(part.inputs.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                    outputs = self._outputs(part)
                outputs = outputs.in_full_precision()
                terms = self.objective(outputs, part)
                loss = torch.stack(list(terms.values())).sum()
                (loss / len(parts)).backward()
            found = {"loss": loss, "accuracy": part.accuracy(outputs), **{f"loss_{k}": v for k, v in terms.items()}}
            for name, value in found.items():
                metrics[name] = metrics.get(name, 0) + value.detach() / len(parts)
        metrics["grad_norm"] = self._clip_gradient()
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        return metrics

    def _outputs(self, part: Batch) -> ModelOutput:
        """Return the network's outputs.

        Raises:
            ConfigError: if the part is too small for batch statistics.
        """
        try:
            outputs: ModelOutput = self.replica(part.inputs)
        except ValueError as err:
            if str(err).startswith("Expected more than 1 value per channel"):  # torch's batch normalisations
                raise ConfigError(f"batch normalisation: {ONE_VALUE}") from err
            raise
        return outputs

    def _clip_gradient(self) -> Tensor:
        """Scale the gradient down to the recipe's largest norm, if it has one; return the norm before, which all ranks share."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.config.clip_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.clip_grad_norm, norm)
        return norm

    def _gradient_sync(self, enabled: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which backward averages the gradients over the ranks, or, if not `enabled`, keeps them local."""
        if enabled or not isinstance(self.replica, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.replica.no_sync()
