# SPDX-License-Identifier: Apache-2.0
"""Whether head is slower, from the times: exact sign flips over blocks, in two gates of several looks each.

A gate looks at its blocks again and again while they come in, and measures on only what is not decided yet. Each look
may err, so each has a share of the error that the gate as a whole may make (Pocock, "Group sequential methods in the
design and analysis of clinical trials", Biometrika 64 (1977)); shares add up, whatever the looks have in common.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np


class Look(NamedTuple):
    """A look at the first blocks of a gate.

    Attributes
    ----------
    blocks : int
    alarms : float
        The chance that it flags any recipe where no recipe is slower.
    errors : float
        The chance that the upper limit of a recipe's ratio is too low; as much for the lower one.
    """

    blocks: int
    alarms: float
    errors: float


# Shares of the 2**blocks sign patterns. Errors of both gates together add up to less than 5 % on each side, since a
# recipe may pass by either; most is left to the last look, after which nothing can be decided. Alarms of the
# confirmation add up to less than 2 / 256, whatever the screen does. Those of the screen may add up to 1 / 4, since
# they only cost time.
SCREEN = (
    Look(6, 4 / 2**6, 1 / 2**6),
    Look(8, 16 / 2**8, 1 / 2**8),
    Look(12, 256 / 2**12, 24 / 2**12),
    Look(16, 4096 / 2**16, 980 / 2**16),
)
CONFIRM = (Look(8, 1 / 2**8, 1 / 2**8), Look(12, 8 / 2**12, 8 / 2**12), Look(16, 128 / 2**16, 240 / 2**16))
RATIO_CONFIDENCE = 0.90  # of a recipe's interval, over all looks of both gates
SMALLEST_RATIO = 1.10
RATIO_BOUND = 1.20
MAX_FLIP_BLOCKS = 16  # 2**16 patterns of 16 signs: a quarter of a second; each further block doubles it


# --- deciding regression


class Judgement(NamedTuple):
    """One scenario's head time over base time, as a look at it found.

    Attributes
    ----------
    ratio : float
        Geometric mean over the blocks.
    low, high : float
        Its interval; 0 and infinity where the blocks are too few for one.
    p : float
        Of being slower, corrected for the number of scenarios.
    slower : bool
        Whether it is: surely (p), and by enough to matter (ratio).
    blocks : int
    """

    ratio: float
    low: float
    high: float
    p: float
    slower: bool
    blocks: int

    @property
    def decided(self) -> bool:
        """Whether more blocks are of no use: it is slower, or surely not by as much as matters."""
        return self.slower or self.high < RATIO_BOUND


@lru_cache
def _patterns(blocks: int) -> np.ndarray:
    """All 2**blocks vectors of 0 and 1, shape (2**blocks, blocks); the first is all zeros."""
    if not 1 <= blocks <= MAX_FLIP_BLOCKS:
        raise ValueError(f"exact sign flips need 1 to {MAX_FLIP_BLOCKS} blocks, not {blocks}")
    # As floats: a proof multiplies them a hundred thousand times.
    return ((np.arange(2**blocks)[:, None] >> np.arange(blocks)) & 1).astype(float)


@lru_cache
def _flips(blocks: int) -> np.ndarray:
    """All 2**blocks vectors of 1 and -1; the first flips nothing: the data as they are."""
    return 1 - 2 * _patterns(blocks)


@lru_cache
def _subsets(blocks: int) -> np.ndarray:
    """All 2**blocks - 1 non-empty subsets, as weights whose product with a sample is its mean over the subset."""
    chosen = _patterns(blocks)[1:]
    return chosen / chosen.sum(axis=1, keepdims=True)


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
    scale = np.sqrt(np.mean(d**2, axis=0))
    scaled = d / np.where(scale > 0, scale, 1.0)
    means = _flips(len(d)) @ scaled / len(d)
    # Sums of the same numbers in another order differ in the last digits; a pattern that ties must count as
    # reaching.
    return (means.max(axis=1)[:, None] >= means[0] - 1e-12).mean(axis=0)


def shift_interval(differences: Sequence[float], errors: float) -> tuple[float, float]:
    """Interval of the centre of symmetric differences: the shifts a two-sided sign-flip test does not reject.

    The 2**B - 1 means of the non-empty subsets of B independent draws, symmetric about a centre, cut the line
    into 2**B pieces, each of which holds the centre with probability 2**-B (Hartigan 1969, typical values).
    So the k-th smallest and the k-th largest of them enclose it with probability 1 - 2k / 2**B; each limit is wrong
    with probability k / 2**B, which is `errors` or less. (-inf, inf) where B is too small for k >= 1.
    """
    d = np.asarray(differences, dtype=float)
    k = math.floor(errors * 2 ** len(d) + 1e-9)
    if k < 1:
        return -math.inf, math.inf
    means = _subsets(len(d)) @ d
    low, high = np.partition(means, (k - 1, len(means) - k))[[k - 1, -k]]
    return float(low), float(high)


def judge(differences: Mapping[str, Sequence[float]], look: Look, family: int = 0) -> dict[str, Judgement]:
    """Judge scenarios as a look does.

    Parameters
    ----------
    differences : mapping of str to sequence of float
        log(t_head / t_base) of each block.
    look : Look
    family : int, default=0
        At a later look than the first: how many scenarios the gate began with.
    """
    names = list(differences)
    if len({len(differences[name]) for name in names}) > 1:
        raise ValueError("every scenario needs the same blocks")
    if not names:
        return {}
    table = np.array([differences[name] for name in names], dtype=float).T
    if family:
        # The times themselves chose which scenarios are still here, and they chose the slower ones. So each is
        # tested alone, and corrected for all that were there at first (Bonferroni). Also where none has left: if the
        # times chose the test too, a look's share would be spent once for each test.
        ps = np.array([min(1.0, family * sign_flip_p(table[:, [place]])[0]) for place in range(len(names))])
    else:
        ps = sign_flip_p(table)
    judged = {}
    for name, p in zip(names, ps, strict=True):
        low, high = shift_interval(differences[name], look.errors)
        blocks = len(differences[name])
        ratio = math.exp(math.fsum(differences[name]) / blocks)
        slower = float(p) <= look.alarms and ratio >= SMALLEST_RATIO
        judged[name] = Judgement(ratio, math.exp(low), math.exp(high), float(p), slower, blocks)
    return judged


Measure = Callable[[Sequence[str] | None, int], Mapping[str, Sequence[float]]]


def look_by_look(
    looks: Sequence[Look], measure: Measure, names: Sequence[str] | None = None
) -> tuple[dict[str, Judgement], dict[str, list[float]]]:
    """Measure and judge, look by look, until every scenario is decided or there are no more looks.

    Parameters
    ----------
    looks : sequence of Look
    measure : callable
        Takes the scenarios to measure (None for all), and how many blocks there should be. Returns
        log(t_head / t_base) of all these blocks. A scenario that is not among them is judged no more.
    names : sequence of str, optional
        Of the scenarios to judge; by default all.

    Returns
    -------
    judged : dict of str to Judgement
        As the last look at each scenario found.
    differences : dict of str to list of float
        Of each block.
    """
    judged: dict[str, Judgement] = {}
    differences: dict[str, list[float]] = {}
    family = 0
    for look in looks:
        found = measure(names, look.blocks)
        looked_at = {name: list(found[name]) for name in (found if names is None else names) if name in found}
        differences |= looked_at
        judged |= judge(looked_at, look, family)
        family = family or len(looked_at)
        names = [name for name in looked_at if not judged[name].decided]
        if not names:
            break
    return judged, differences


def flag_slower(screened: Mapping[str, Judgement]) -> list[str]:
    """Gate 1: the scenarios that have to be measured again, in new blocks."""
    return [name for name, judgement in screened.items() if judgement.slower]


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


def weigh(screened: Mapping[str, Judgement], confirmed: Mapping[str, Judgement]) -> Weighed:
    """The screen (gate 1) and the confirmation of what it flagged (gate 2) together.

    Parameters
    ----------
    screened : mapping of scenario to Judgement
        From the looks at the first blocks, all scenarios.
    confirmed : mapping of scenario to Judgement
        From the looks at new blocks of the scenarios that `flag_slower` names.

    Raises
    ------
    ValueError
        If nothing was screened.
    """
    if not screened:
        raise ValueError("no scenario was compared, so there is no verdict")
    flagged = flag_slower(screened)
    slow = [name for name in flagged if name in confirmed and confirmed[name].slower]
    lost = [name for name in flagged if name not in confirmed]
    # What was flagged is judged by its new blocks alone: the old ones were chosen for being slow. "All ratios
    # lie below" needs no correction for their number: it is wrong only where one of the intervals is (an
    # intersection-union test).
    wide = [name for name, judgement in screened.items() if confirmed.get(name, judgement).high >= RATIO_BOUND]
    return Weighed(slow, lost, wide)
