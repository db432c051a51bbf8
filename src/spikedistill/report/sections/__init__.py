"""Sections of the report: the cost of the stages, the origin of the networks, the ranking of sweeps. Imports no torch."""
