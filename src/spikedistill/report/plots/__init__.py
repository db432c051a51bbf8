"""The figures of the report, as deterministic SVG and PDF."""
