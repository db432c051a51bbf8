"""Preparation of datasets: inventory of the files, event integration, split lists, the writers of the prepared data."""
