# SPDX-License-Identifier: Apache-2.0
"""Errors that mean something: one that a user is meant to read, one that ends in a record."""

from __future__ import annotations


class UsageError(Exception):
    """Something the user asked for cannot be done: one line that says what, where and what to do.

    The command line prints it without a stack trace and exits with 2.
    """


class InvalidCellError(Exception):
    """A cell ran and its time does not count; the text says why.

    Parameters
    ----------
    why : str
    answer : object, optional
        Its answer, where that is right all the same.
    """

    def __init__(self, why: str, answer: object = None):
        super().__init__(why)
        self.answer = answer
