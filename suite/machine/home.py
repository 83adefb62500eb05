# SPDX-License-Identifier: Apache-2.0
"""Where this user's files belong that outlive a run: at home, or below the temporary folder where there is no home."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from suite.errors import UsageError


def home_problem() -> str | None:
    """What is wrong with this user's home, in a few words; None where files can be kept there."""
    try:
        folder = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the system's table of users
        return "there is none"
    if not folder.is_dir():
        return f"{folder} is not there"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written"


def home() -> Path:
    """The home of this user, or where none can be written, a folder of the user's own that takes its place.

    Raises
    ------
    UsageError
        That folder is somebody else's.
    """
    if home_problem() is None:
        return Path.home()
    folder = Path(tempfile.gettempdir()) / f"foldout-home-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_own(folder):
        raise UsageError(f"{folder} belongs to another user: set HOME to a folder that you can write to")
    return folder


def is_own(folder: Path) -> bool:
    """Whether a folder that this user may have made is no link and no other user's: anybody may write around it."""
    return not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def cache_folder() -> Path:
    """Where this user's caches are; it may have to be made."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else home() / ".cache"  # a relative one is invalid, as XDG has it
