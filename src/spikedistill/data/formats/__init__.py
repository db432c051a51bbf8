"""Decoders: recordings, images, archives and label files as they were published."""
