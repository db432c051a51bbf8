"""The network as it is trained: layout, compilation, activation checkpointing, ranks."""
