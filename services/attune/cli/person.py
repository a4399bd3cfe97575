"""Who gives a command, for the record of moves and publications."""

from __future__ import annotations

import getpass
import os


def person() -> str:
    """The user's name; the number of a user that has none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
