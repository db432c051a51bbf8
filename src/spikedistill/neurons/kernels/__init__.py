"""Triton kernels for neurons on a GPU."""
