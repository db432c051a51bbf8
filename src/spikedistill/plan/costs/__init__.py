"""The basis of estimates: the work of a stage, figures of GPUs, the time of a step on them. Imports no torch."""
