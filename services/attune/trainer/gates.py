"""The gates between a trained revision and its promotion: pure verdicts on figures that others measured.

Both statistical gates use the exact one-sided sign test: of n decisive outcomes, k fell on one side, and the tail of
Binomial(n, 1/2) says how surprising that is. It needs no approximation, so that a handful of outcomes is judged as
rightly as thousands, and no scipy. Ties tell nothing about direction and drop out: with ties counted half, a win rate
is below one half exactly when losses outnumber wins. On paired right-or-wrong outcomes it is McNemar's exact test.

Many looks. Each reward revision is one more look at held-out feedback that overlaps the last look's, so that chance is
offered the prize again and again. `CHANCE_ALPHA` is therefore small: by the union bound, which holds however the looks
overlap, N revisions that are no better than chance slip one through with probability at most N x 1e-4. In return, at
least 14 decisive events are needed even if all are right, and about 60 when three quarters are.

An outcome must be an independent unit. The pairs of one ranking are not: give one figure an event, the share of its
pairs that are ordered right (`likelihood.ordering_accuracy`), and only of events that order completions. Ratings do not
belong here, for predicting the majority's thumb is already better than a coin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

REGRESSION_ALPHA = 0.05
"""How unlikely a result must be, were there no regression, before a revision is rejected as worse."""

CHANCE_ALPHA = 1e-4
"""How unlikely a reward model's accuracy must be, were it guessing, before it counts as better than chance."""


@dataclass(frozen=True)
class GateVerdict:
    """Whether a revision may be promoted, why not, and the figures that this rests on."""

    passed: bool
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, reasons: Sequence[str | None], figures: Mapping[str, float]) -> GateVerdict:
        """The verdict that passes when no reason against it is left."""
        against = tuple(reason for reason in reasons if reason)
        return cls(not against, against, dict(figures))

    def __and__(self, other: GateVerdict) -> GateVerdict:
        """Both gates together: every reason and every figure of either."""
        return GateVerdict.of(self.reasons + other.reasons, self.figures | other.figures)


def sign_test(more: int, fewer: int) -> float:
    """P(X >= more) for X ~ Binomial(more + fewer, 1/2): how surprising it is that `more` are that many. 1 if none."""
    n = more + fewer
    ways = tail = 1  # n choose n, then down to n choose `more`; whole numbers, so that nothing is rounded
    for k in range(n, more, -1):
        ways = ways * k // (n - k + 1)
        tail += ways
    return tail / 2**n


def win_rate_gate(wins: int, ties: int, losses: int, alpha: float = REGRESSION_ALPHA) -> GateVerdict:
    """Reject a policy only if it loses to the stable one significantly more often than it wins. No data, no pass."""
    n = wins + ties + losses
    if n == 0:
        return GateVerdict.of(["no completions were compared with the stable policy's"], {"win_rate_comparisons": 0.0})
    win_rate, p = (wins + 0.5 * ties) / n, sign_test(losses, wins)
    reason = f"win rate {win_rate:.3f} over {n} is below one half (p {p:.2g} < {alpha:g})" if p < alpha else None
    return GateVerdict.of([reason], {"win_rate": win_rate, "win_rate_p": p, "win_rate_comparisons": float(n)})


def reward_gate(
    child_correct: Sequence[float],
    parent_correct: Sequence[float] | None,
    alpha: float = REGRESSION_ALPHA,
    chance_alpha: float = CHANCE_ALPHA,
) -> GateVerdict:
    """Pass a reward model that is better than chance and not significantly worse than its parent.

    One entry a held-out event, in [0, 1]: the share of its pairs that the model orders right. The two sequences are
    paired; a first revision has no parent (None). Better than chance must itself be significant, at `chance_alpha`: the
    lower confidence bound lies above one half. Worse than the parent must be significant, at `alpha`, to reject.
    """
    if not all(0 <= share <= 1 for share in (*child_correct, *(parent_correct or ()))):
        raise ValueError("shares of pairs ordered right lie in [0, 1]")
    chance = _against_chance(child_correct, chance_alpha)
    return chance if parent_correct is None else chance & _against_parent(child_correct, parent_correct, alpha)


def kl_ceiling(kl: float, ceiling: float) -> GateVerdict:
    """Reject a policy whose KL to the reference, in nats a response, exceeds the ceiling or is not a number."""
    reason = None if kl <= ceiling else f"KL {kl:.3f} nats a response exceeds the ceiling {ceiling:g}"
    return GateVerdict.of([reason], {"kl": kl, "kl_ceiling": ceiling})


def finite(figures: Mapping[str, float]) -> GateVerdict:
    """Reject a step of which any figure is NaN or infinite."""
    return GateVerdict.of([None if math.isfinite(x) else f"{name} is {x}" for name, x in figures.items()], figures)


def _against_chance(correct: Sequence[float], alpha: float) -> GateVerdict:
    p = sign_test(sum(share > 0.5 for share in correct), sum(share < 0.5 for share in correct))
    accuracy = math.fsum(correct) / len(correct) if correct else 0.0
    reason = f"accuracy {accuracy:.3f} over {len(correct)} events is not above chance (p {p:.2g} >= {alpha:g})"
    figures = {"reward_accuracy": accuracy, "reward_chance_p": p, "reward_events": float(len(correct))}
    return GateVerdict.of([None if p < alpha else reason], figures)


def _against_parent(child: Sequence[float], parent: Sequence[float], alpha: float) -> GateVerdict:
    pairs = list(zip(child, parent, strict=True))
    p = sign_test(sum(c < q for c, q in pairs), sum(c > q for c, q in pairs))
    gain = math.fsum(c - q for c, q in pairs) / max(len(pairs), 1)
    reason = f"accuracy fell by {-gain:.3f} against the parent's (p {p:.2g} < {alpha:g})"
    return GateVerdict.of([reason if p < alpha else None], {"reward_gain": gain, "reward_parent_p": p})
