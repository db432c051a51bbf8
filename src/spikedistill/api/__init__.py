"""What `import spikedistill` offers, in modules that are imported on first use; see docs/python.md."""
