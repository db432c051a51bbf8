"""Spiking neurons, one file each: parameters, what they use and support, equations. Importing them does not import torch."""
