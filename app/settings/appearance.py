"""The settings of how pages look: their templates and colours."""

import re
from pathlib import Path

from app.settings.error import SettingsError

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def check_templates(folder: str) -> None:
    """Raise SettingsError unless the name is empty, or that of a folder."""
    if folder and not Path(folder).is_dir():
        raise SettingsError(f"TEMPLATES_DIR: there is no folder {folder}")


def check_colour(setting: str, colour: str) -> None:
    """Raise SettingsError for anything but a colour in six hexadecimal digits."""
    if not COLOUR.fullmatch(colour):
        raise SettingsError(f"{setting} must be a colour such as #1d4ed8")
