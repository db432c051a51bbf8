"""Decoding of images in files: only the part that is needed, by the fastest decoder available."""
