"""Train and compare knowledge distillation for spiking neural networks, from a laptop to a multi-node Slurm cluster."""

__version__ = "0.1.0"
