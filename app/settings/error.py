"""The error of a setting that is missing or wrong."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message tells the operator which, in one line."""


def reason(error: Exception) -> str:
    """Return what the system says went wrong, without the name of the file."""
    return getattr(error, "strerror", None) or str(error)
