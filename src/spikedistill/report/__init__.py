"""The comparison: tables and figures."""
