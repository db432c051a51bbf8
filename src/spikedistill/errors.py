"""Errors the user can fix; each message says what, where, what is allowed and what to do."""


class SpikedistillError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(SpikedistillError, ValueError):
    """A value in the configuration or on the command line is invalid."""


class UnknownComponentError(ConfigError):
    """A name that no method, dataset, architecture or other component has; it may be one of a plug-in that is not in use."""


class DataError(SpikedistillError, RuntimeError):
    """A dataset is missing, incomplete or damaged."""


class ArtifactError(SpikedistillError, RuntimeError):
    """An artifact of the store is missing, incomplete or damaged."""


class StaleCodeError(SpikedistillError, RuntimeError):
    """A job starts with different code than it was planned with."""


class TrainingError(SpikedistillError, RuntimeError):
    """Training cannot continue: unreadable checkpoint, loss that is not finite, lost rank."""


class EvaluationError(SpikedistillError, RuntimeError):
    """A network cannot be measured: its logits are not finite."""
