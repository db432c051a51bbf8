"""The configuration: its models, the check of every key, sweeps, files, schema and reference. Imports no torch."""
