# SPDX-License-Identifier: Apache-2.0
"""Which locale child processes get, so that all of them read the names of files as UTF-8."""

from __future__ import annotations

import locale
from collections.abc import Mapping
from functools import cache

# Linux has the first one; macOS has it in newer releases, and always the second.
CANDIDATES = ("C.UTF-8", "en_US.UTF-8")


@cache
def is_utf8(name: str) -> bool:
    """Whether this machine has a locale of that name, and its encoding is UTF-8."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
        return locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8"
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def locale_of(variables: Mapping[str, str]) -> str:
    """The locale whose encoding a program takes, by its variables."""
    return next(filter(None, map(variables.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "C")


def utf8_locale(variables: Mapping[str, str]) -> dict[str, str]:
    """What has to be set besides these variables for an encoding of UTF-8: nothing where they name one already."""
    if is_utf8(locale_of(variables)):
        return {}
    return next(({"LC_ALL": name} for name in CANDIDATES if is_utf8(name)), {})
