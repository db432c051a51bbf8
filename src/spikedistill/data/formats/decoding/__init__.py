"""Decoding of images in files: what is needed of them, by what is fastest."""
