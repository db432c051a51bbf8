"""Distillation methods, one file each: parameters and pure loss functions. Importing them does not import torch."""
