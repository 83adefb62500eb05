# SPDX-License-Identifier: Apache-2.0
"""Cannot be imported."""

import no_such_package  # noqa: F401

# --- benchmark: delete from here on when copying ------------------------
