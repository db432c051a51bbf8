"""Decoders of recordings, images, archives and label files in their published formats."""
