"""Spiking neurons: parameters, equations, surrogate gradients, and a backend for each device."""
