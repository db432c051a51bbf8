"""Data that is larger than memory: an order that reads blocks, and threads that read ahead."""
