"""Preparation of datasets: inventory of the files, event integration, split lists, writers of the prepared data."""
