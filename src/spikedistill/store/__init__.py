"""The store: artifacts, leases, provenance, files written atomically. Imports no torch."""
