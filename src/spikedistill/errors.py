"""Errors that are the user's to mend: each message says what, where, what is allowed and what to do."""


class SpikedistillError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(SpikedistillError, ValueError):
    """The configuration, or a value given on the command line, cannot be used."""


class DataError(SpikedistillError, RuntimeError):
    """A dataset is missing, incomplete or damaged."""


class ArtifactError(SpikedistillError, RuntimeError):
    """An artifact of the store is missing, incomplete or damaged."""


class TrainingError(SpikedistillError, RuntimeError):
    """Training cannot go on: a bad checkpoint, a loss that is not finite, a lost rank."""
