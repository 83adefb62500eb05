# SPDX-License-Identifier: Apache-2.0
"""The verdict of a comparison: a word, a line and an exit code, from what gate 0 found and what the times say.

Gate 1 screens the times of all recipes, gate 2 confirms on new blocks what the first has flagged; both are in
`sign_flip`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from suite.gate.gate_zero import Finding
from suite.gate.sign_flip import RATIO_BOUND, Judgement, weigh

EXIT_CODES = {"pass": 0, "regression": 3, "inconclusive": 4}


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes
    ----------
    word : str
        `pass`, `regression` or `inconclusive`.
    line : str
        The reason, as a sentence.
    """

    word: str
    line: str

    @property
    def exit_code(self) -> int:
        """0, 3 or 4."""
        return EXIT_CODES[self.word]


def decide(
    findings: Sequence[Finding],
    screened: Mapping[str, Judgement],
    confirmed: Mapping[str, Judgement] | None = None,
) -> Verdict:
    """Decide on a comparison.

    Parameters
    ----------
    findings : sequence of Finding
        Of gate 0, from all blocks.
    screened, confirmed : mapping of str to Judgement
        Of gates 1 and 2.
    """
    if worse := [finding for finding in findings if finding.kind == "regression"]:
        return Verdict("regression", "; ".join(f"{finding.name} {finding.text}" for finding in worse[:3]))
    confirmed = confirmed or {}
    weighed = weigh(screened, confirmed) if screened else None
    if weighed and weighed.slow:
        said = (
            f"{name} takes {confirmed[name].ratio:.2f} times as long{_limits(confirmed[name])}" for name in weighed.slow
        )
        return Verdict("regression", "; ".join(said))
    if unclear := [finding for finding in findings if finding.kind == "unclear"]:
        said = (f"{finding.name}: {finding.text}" for finding in unclear[:3])
        return Verdict("inconclusive", "not everything could be compared: " + "; ".join(said))
    if weighed is None:
        return Verdict("inconclusive", "no recipe ran on both sides")
    if weighed.lost:
        return Verdict("inconclusive", f"flagged and not measured again: {', '.join(weighed.lost)}")
    if weighed.wide:
        said = (
            f"{name} may take up to {confirmed.get(name, screened[name]).high:.2f} times as long"
            for name in weighed.wide
        )
        return Verdict("inconclusive", f"{'; '.join(said)}: too noisy to tell; run it again on a quieter machine")
    return Verdict("pass", f"no recipe of {len(screened)} takes {RATIO_BOUND:.2f} times as long or longer")


def recipe_word(name: str, screened: Mapping[str, Judgement], confirmed: Mapping[str, Judgement]) -> str:
    """Return what a table says of a recipe that was timed."""
    below = confirmed.get(name, screened[name]).high < RATIO_BOUND
    if name not in confirmed:
        return "ok" if below else "unclear"
    if confirmed[name].slower:
        return "slower, confirmed"
    return "flagged, not confirmed" + ("" if below else ": unclear")


def _limits(one: Judgement) -> str:
    return f" ({one.low:.2f} to {one.high:.2f})"
