# SPDX-License-Identifier: Apache-2.0
"""Parameters of which a few are tested on every push, and all of them at night."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def others_at_night(values: Iterable[Any], every_push: Collection[Any]) -> list[Any]:
    """Mark as slow what is not named: one more of a kind.

    Parameters
    ----------
    values : iterable
    every_push : collection
        Those of them that are not marked.
    """
    values = list(values)
    assert all(value in values for value in every_push), "a parameter that is no longer there"
    return [value if value in every_push else pytest.param(value, marks=pytest.mark.slow) for value in values]
