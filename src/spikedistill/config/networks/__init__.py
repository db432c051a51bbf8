"""Checks of the networks of an experiment: teachers and students from elsewhere, students of all steps at once."""
