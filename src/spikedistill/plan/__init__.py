"""The plan: config -> stages with content ids, their cost, and which of them are up to date. Imports no torch."""
