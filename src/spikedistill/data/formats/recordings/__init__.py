"""Decoders of users' own event recordings: one file per family of formats. `kinds` has the table of all."""
