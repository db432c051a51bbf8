"""Measurements on trained networks."""
