"""What estimates calculate with: the work of a stage, figures of GPUs, the time of a step on them. Imports no torch."""
