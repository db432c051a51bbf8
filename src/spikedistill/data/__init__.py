"""Data: decoding, integration, stores, loading and augmentation."""
