"""A trained network as a self-contained folder: weights, the description to rebuild it, a model card and optionally NIR."""

from spikedistill.export.folder import load, write_export

__all__ = ["load", "write_export"]
