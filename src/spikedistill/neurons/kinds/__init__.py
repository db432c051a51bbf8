"""Spiking neurons, one file each: parameters, what they use and support, and their equations. Importing them does not import torch."""
