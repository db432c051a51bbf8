"""Learning-rate schedules, one file each: pure functions of the position in training; see docs/extending.md."""
