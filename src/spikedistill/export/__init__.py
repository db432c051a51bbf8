"""A trained network as a folder of its own: weights, what is needed to build it again, a model card, and on request NIR."""

from spikedistill.export.folder import load, write_export

__all__ = ["load", "write_export"]
