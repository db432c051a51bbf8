"""The stages of the pipeline: spec and paths in, one artifact out."""
