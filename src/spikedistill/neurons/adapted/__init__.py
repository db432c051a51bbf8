"""Neurons of other libraries."""
