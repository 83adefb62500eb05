# SPDX-License-Identifier: Apache-2.0
"""The one error that a user is meant to read."""

from __future__ import annotations


class UsageError(Exception):
    """Something the user asked for cannot be done: one line that says what, where and what to do.

    The command line prints it without a stack trace and exits with 2.
    """
