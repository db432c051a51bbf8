"""Property tests: the same examples in every run, and no limit on their time, which depends on the machine."""

from hypothesis import settings

settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("reproducible")
