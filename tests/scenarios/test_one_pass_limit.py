# SPDX-License-Identifier: Apache-2.0
"""What is beside one pass has to have looked at all rows too."""

import one_pass_limit as recipe
import pytest

SUMS = [4.4e8, 1.04e6, 3e-4]  # of 7.3 million rows: labels, how many are of a Monday, sines over two years


def test_sums_may_differ_by_rounding_and_by_no_row():
    recipe.check(SUMS, [4.4e8 + 1e-1, 1.04e6, 3.1e-4])
    for row in ([60.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]):
        with pytest.raises(AssertionError):
            recipe.check(SUMS, [total - value for total, value in zip(SUMS, row, strict=True)])
