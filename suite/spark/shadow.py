# SPDX-License-Identifier: Apache-2.0
"""Finds a PySpark that is imported in place of the installed one. It does not import it: that may fail."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

from suite.errors import UsageError

REMEDY = "take its folder out of PYTHONPATH"


def foreign_pyspark() -> str | None:
    """Say which PySpark is imported in place of the installed one, as of a Spark on PYTHONPATH; None where none is."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        return None
    try:
        installed = metadata.version("pyspark")
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except metadata.PackageNotFoundError:
        return f"{spec.origin} is imported, and no package pyspark is installed"
    except OSError:
        return None
    found = re.search(r"""__version__\b.*=\s*["'](.+?)["']""", text)
    if found is None or found[1] == installed:
        return None
    return f"{spec.origin} is imported, which is {found[1]} and not {installed}"


def refuse_foreign_pyspark() -> None:
    """Make sure that what would be measured is the installed PySpark.

    Raises
    ------
    UsageError
        It is another one.
    """
    if shadow := foreign_pyspark():
        raise UsageError(f"{shadow}: {REMEDY}")
