"""The comparison: tables and figures. Imports no torch."""
