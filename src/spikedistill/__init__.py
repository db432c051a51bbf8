"""Train and compare knowledge distillation for spiking neural networks, from a laptop to a multi-node Slurm cluster."""

from typing import TYPE_CHECKING

from spikedistill.lazy import exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spikedistill.api.loading import load
    from spikedistill.api.lookup import (
        list_architectures,
        list_datasets,
        list_methods,
        list_neurons,
        list_optimizers,
        list_schedules,
        open_data,
        open_store,
        use_plugins,
    )
    from spikedistill.api.networks import create_student, create_teacher
    from spikedistill.api.trained import TrainedNetwork
    from spikedistill.distill.ce import mean_cross_entropy
    from spikedistill.distill.ckdsnn import activation_map_loss, noise_smoothed_loss
    from spikedistill.distill.esd import esd_loss, reliable_teacher
    from spikedistill.distill.kd import kd_divergence, per_step_kd
    from spikedistill.distill.sealkd import error_aware_alignment, sealkd_loss, temporal_alignment
    from spikedistill.distill.tdd import self_target, tdd_loss
    from spikedistill.distill.tet import per_step_cross_entropy
    from spikedistill.neurons.lif import LIF, lif
    from spikedistill.neurons.settings import NeuronConfig

__all__ = [
    "LIF",
    "NeuronConfig",
    "TrainedNetwork",
    "activation_map_loss",
    "create_student",
    "create_teacher",
    "error_aware_alignment",
    "esd_loss",
    "kd_divergence",
    "lif",
    "list_architectures",
    "list_datasets",
    "list_methods",
    "list_neurons",
    "list_optimizers",
    "list_schedules",
    "load",
    "mean_cross_entropy",
    "noise_smoothed_loss",
    "open_data",
    "open_store",
    "per_step_cross_entropy",
    "per_step_kd",
    "reliable_teacher",
    "sealkd_loss",
    "self_target",
    "tdd_loss",
    "temporal_alignment",
    "use_plugins",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "load": "api.loading",
        "list_architectures": "api.lookup",
        "list_datasets": "api.lookup",
        "list_methods": "api.lookup",
        "list_neurons": "api.lookup",
        "list_optimizers": "api.lookup",
        "list_schedules": "api.lookup",
        "open_data": "api.lookup",
        "open_store": "api.lookup",
        "use_plugins": "api.lookup",
        "create_student": "api.networks",
        "create_teacher": "api.networks",
        "TrainedNetwork": "api.trained",
        "mean_cross_entropy": "distill.ce",
        "activation_map_loss": "distill.ckdsnn",
        "noise_smoothed_loss": "distill.ckdsnn",
        "esd_loss": "distill.esd",
        "reliable_teacher": "distill.esd",
        "kd_divergence": "distill.kd",
        "per_step_kd": "distill.kd",
        "error_aware_alignment": "distill.sealkd",
        "sealkd_loss": "distill.sealkd",
        "temporal_alignment": "distill.sealkd",
        "self_target": "distill.tdd",
        "tdd_loss": "distill.tdd",
        "per_step_cross_entropy": "distill.tet",
        "LIF": "neurons.lif",
        "lif": "neurons.lif",
        "NeuronConfig": "neurons.settings",
    },
)
