"""Distillation methods, one file each: parameters and pure loss functions."""
