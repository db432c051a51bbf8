"""What is measured while training, by step and by epoch."""
