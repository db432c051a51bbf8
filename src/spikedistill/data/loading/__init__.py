"""Batches for training and evaluation: order, inputs, augmentation."""
