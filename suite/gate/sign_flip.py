# SPDX-License-Identifier: Apache-2.0
"""Whether head is slower, from the times: exact sign flips over blocks, in two gates.

The shares below are of the 2**8 sign patterns of eight blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from suite.stats import CONFIDENCE

# "Deciding regression" judges by these; the shares are of the 2**8 sign patterns of eight blocks.
GATE_BLOCKS = 8  # of each gate
SCREEN_P = 12 / 256
CONFIRM_P = 2 / 256
SMALLEST_RATIO = 1.10
RATIO_BOUND = 1.20
MAX_FLIP_BLOCKS = 16  # 2**16 patterns of 16 signs: a quarter of a second; each further block doubles it


# --- deciding regression


class Judgement(NamedTuple):
    """One scenario's head time over base time: geometric ratio, its 95 % interval, and the corrected p."""

    ratio: float
    low: float  # 0 where the blocks are too few for an interval
    high: float  # infinity where they are too few
    p: float


def _patterns(blocks: int) -> np.ndarray:
    """All 2**blocks vectors of 0 and 1, shape (2**blocks, blocks); the first is all zeros."""
    if not 1 <= blocks <= MAX_FLIP_BLOCKS:
        raise ValueError(f"exact sign flips need 1 to {MAX_FLIP_BLOCKS} blocks, not {blocks}")
    return (np.arange(2**blocks)[:, None] >> np.arange(blocks)) & 1


def sign_flip_p(differences: np.ndarray) -> np.ndarray:
    """Exact p of each scenario being slower, corrected for the number of scenarios.

    Parameters
    ----------
    differences : ndarray of shape (n_blocks, n_scenarios)
        log(t_head / t_base).

    Returns
    -------
    ndarray of shape (n_scenarios,)
        The share of sign patterns whose largest scaled mean, over scenarios, reaches the scenario's own.
    """
    # If head and base are the same and a fair coin says which goes first, the two times of a block could as
    # well carry each other's name: flipping the signs of a whole block changes nothing in the joint
    # distribution, whatever the drift, the shape or the dependence between scenarios (Fisher's randomisation
    # test). Comparing with the maximum over scenarios bounds the chance of any false alarm (Westfall & Young
    # 1993). The root mean square is the same under every flip, so dividing by it keeps the test exact and
    # lets a quiet scenario be heard beside a noisy one.
    d = np.asarray(differences, dtype=float)
    if d.ndim != 2 or not np.isfinite(d).all():
        raise ValueError("differences must be a table (blocks, scenarios) without missing values")
    flips = 1 - 2 * _patterns(len(d))  # the first row flips nothing: the data as they are
    scale = np.sqrt(np.mean(d**2, axis=0))
    scaled = d / np.where(scale > 0, scale, 1.0)
    means = flips @ scaled / len(d)
    # Sums of the same numbers in another order differ in the last digits; a pattern that ties must count as
    # reaching.
    return (means.max(axis=1)[:, None] >= means[0] - 1e-12).mean(axis=0)


def shift_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the centre of symmetric differences: the shifts a two-sided sign-flip test does not reject.

    The 2**B - 1 means of the non-empty subsets of B independent draws, symmetric about a centre, cut the line
    into 2**B pieces, each of which holds the centre with probability 2**-B (Hartigan 1969, typical values).
    So the k-th smallest and the k-th largest of them enclose it with probability 1 - 2k / 2**B. (-inf, inf)
    where B is too small for k >= 1.
    """
    d = np.asarray(differences, dtype=float)
    k = math.floor((1 - confidence) / 2 * 2 ** len(d) + 1e-9)
    if k < 1:
        return -math.inf, math.inf
    chosen = _patterns(len(d))[1:]
    means = np.sort(chosen @ d / chosen.sum(axis=1))
    return float(means[k - 1]), float(means[-k])


def judge(differences: Mapping[str, Sequence[float]]) -> dict[str, Judgement]:
    """Ratio, interval and corrected p of each scenario, from its log(t_head / t_base) in each block."""
    names = list(differences)
    if len({len(differences[name]) for name in names}) > 1:
        raise ValueError("every scenario needs the same blocks")
    if not names:
        return {}
    ps = sign_flip_p(np.array([differences[name] for name in names], dtype=float).T)
    judged = {}
    for name, p in zip(names, ps, strict=True):
        low, high = shift_interval(differences[name])
        judged[name] = Judgement(
            math.exp(math.fsum(differences[name]) / len(differences[name])),
            math.exp(low),
            math.exp(high),
            float(p),
        )
    return judged


def slower(judgement: Judgement, p_limit: float) -> bool:
    """Whether a gate flags it: surely slower (p), and by enough to matter (ratio)."""
    return judgement.p <= p_limit and judgement.ratio >= SMALLEST_RATIO


def flag_slower(screened: Mapping[str, Judgement]) -> list[str]:
    """Gate 1: the scenarios that have to be measured again, in new blocks."""
    return [name for name, judgement in screened.items() if slower(judgement, SCREEN_P)]


class Weighed(NamedTuple):
    """What the times of the two gates come to, by scenario."""

    slow: list[str]  # flagged by the screen, and slower again in new blocks
    lost: list[str]  # flagged by the screen, and not measured again
    wide: list[str]  # those whose interval reaches the bound: no pass can be given

    @property
    def word(self) -> Literal["pass", "regression", "inconclusive"]:
        """The verdict on the times alone."""
        if self.slow:
            return "regression"
        return "inconclusive" if self.lost or self.wide else "pass"


def weigh(screened: Mapping[str, Judgement], confirmed: Mapping[str, Judgement], bound: float = RATIO_BOUND) -> Weighed:
    """The screen (gate 1) and the confirmation of what it flagged (gate 2) together.

    Parameters
    ----------
    screened : mapping of scenario to Judgement
        From `judge` on the first blocks, all scenarios.
    confirmed : mapping of scenario to Judgement
        From `judge` on new blocks of the scenarios that `flag_slower` names.
    bound : float, default=1.20
        A pass says that every ratio lies below it.

    Raises
    ------
    ValueError
        If nothing was screened.
    """
    if not screened:
        raise ValueError("no scenario was compared, so there is no verdict")
    flagged = flag_slower(screened)
    slow = [name for name in flagged if name in confirmed and slower(confirmed[name], CONFIRM_P)]
    lost = [name for name in flagged if name not in confirmed]
    # What was flagged is judged by its new blocks alone: the old ones were chosen for being slow. "All ratios
    # lie below" needs no correction for their number: it is wrong only where one of the intervals is (an
    # intersection-union test).
    wide = [name for name, judgement in screened.items() if confirmed.get(name, judgement).high >= bound]
    return Weighed(slow, lost, wide)
