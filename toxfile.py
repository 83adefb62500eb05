# SPDX-License-Identifier: Apache-2.0
"""tox reads this before it makes anything: without it, a Python that has no wheels would end in pages of messages."""

import sys

# As in `requires-python` of pyproject.toml. An old Python has to be able to read this file.
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.stderr.write(
        "error: foldout needs Python 3.11 to 3.14, and this tox runs on "
        + sys.version.split()[0]
        + ": remove .venv and "
        "paste the line with, say, python3.14 in place of python3 (with uv: uvx --python 3.14 tox)\n"
    )
    sys.exit(2)
