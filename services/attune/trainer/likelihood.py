"""The likelihood of the reward model: how probable is what people said, given the scores of the completions?

A completion's score s is the logarithm of its worth: alpha = exp(s).

* Ranking (a comparison is one of two): Plackett-Luce, a sequence of choices of the best of what remains. Ties by
  Davidson-Luce (Firth, Kosmidis & Turner, "Davidson-Luce model for multi-item choice with ties", arXiv 1909.07123):
  of a set S, the tied best are T with probability proportional to delta_t (prod of alpha_i over T)^(1/t), t = |T|,
  among all subsets of S up to the maximum tie order D; delta_1 = 1. Of two this is Davidson (1970); with delta = 0 it
  is Plackett-Luce.
* Demonstration: preferred over what it corrected. Bradley-Terry, since who writes a correction cannot declare a tie.
* Rating in [0, 1]: cross-entropy of sigmoid(score - b_source), b_source being the source's learned leniency.

Scores come as one flat tensor (N,), from one forward pass over all completions of a batch; items point into it.
Refused: an index twice in a ranking, a tie beyond the maximum order, ratings outside [0, 1]. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Levels = Sequence[Sequence[int]]
"""A ranking: indices into the scores, best level first; the indices of one level are tied."""


@dataclass(frozen=True)
class RankedScores:
    """A ranking or comparison of completions."""

    levels: Levels
    weight: float = 1.0


@dataclass(frozen=True)
class RatedScore:
    """A rating: `value` in [0, 1] for one completion, from the source with that index into the biases."""

    index: int
    value: float
    source: int
    weight: float = 1.0


@dataclass(frozen=True)
class CorrectedScore:
    """A demonstration: the answer at `preferred` is what the answer at `rejected` should have been."""

    preferred: int
    rejected: int
    weight: float = 1.0


PreferenceItem = RankedScores | RatedScore | CorrectedScore


@dataclass(frozen=True)
class PreferenceNLL:
    """`loss`: the weighted mean, a scalar to differentiate. `nll` (items,): each item's own, in nats, unweighted."""

    loss: Tensor
    nll: Tensor


def preference_nll(
    scores: Tensor,
    items: Sequence[PreferenceItem],
    log_delta: Tensor | None = None,
    source_biases: Tensor | None = None,
    total_weight: float | None = None,
) -> PreferenceNLL:
    """Negative log-likelihood of a batch of feedback given the scores (N,) of its completions.

    `log_delta` (D - 1,): logarithms of the tie prevalences delta_2..delta_D; None where ties are not offered.
    `source_biases` (sources,): b_source, needed when there are ratings. `total_weight`: the sum of weights over the
    whole batch when `items` is a micro-batch, so that losses add up to the batch's; else the items' own sum.
    """
    rankings = {i: item for i, item in enumerate(items) if isinstance(item, RankedScores)}
    ratings = {i: item for i, item in enumerate(items) if isinstance(item, RatedScore)}
    corrections = {i: item for i, item in enumerate(items) if isinstance(item, CorrectedScore)}
    by_kind = torch.cat(
        [
            ranking_nll(scores, [item.levels for item in rankings.values()], log_delta),
            _ratings_nll(scores, list(ratings.values()), source_biases),
            _corrections_nll(scores, list(corrections.values())),
        ]
    )
    nll = by_kind[torch.tensor([*rankings, *ratings, *corrections], device=scores.device).argsort()]
    weights = torch.tensor([item.weight for item in items], device=scores.device)
    return PreferenceNLL((weights * nll).sum() / (weights.sum() if total_weight is None else total_weight), nll)


# Rankings


def ranking_nll(scores: Tensor, rankings: Sequence[Levels], log_delta: Tensor | None = None) -> Tensor:
    """Davidson-Luce negative log-likelihoods: scores (N,), G rankings of indices into them -> (G,).

    `log_delta` (D - 1,) as in `preference_nll`; None is plain Plackett-Luce, which knows no ties.
    """
    scores = scores.float()
    if not rankings:
        return scores.new_zeros(0)
    log_deltas = scores.new_zeros(1) if log_delta is None else torch.cat([scores.new_zeros(1), log_delta.float()])
    for levels in rankings:
        _check_levels(levels, max_tie_order=len(log_deltas))
    index, tie_size, is_first_of_level = (x.to(scores.device) for x in _pad_left(rankings))
    ranked = scores[index]
    share = torch.where(tie_size > 0, ranked / tie_size.clamp(min=1), 0.0)
    chosen = torch.where(is_first_of_level, log_deltas[tie_size.clamp(min=1) - 1], 0.0)
    alternatives = torch.where(is_first_of_level, _log_alternatives(ranked, log_deltas), 0.0)
    return (alternatives - share - chosen).sum(1)


def _log_alternatives(ranked: Tensor, log_deltas: Tensor) -> Tensor:
    """Log of the normaliser of a choice from what stands at position p and after: (G, K), (D,) -> (G, K).

    The normaliser is the sum over t = 1..D of delta_t e_t(alpha^(1/t)), where e_t is the t-th elementary symmetric
    polynomial: the sum over all subsets of size t, without listing them. Its recurrence e_k <- e_k + x e_{k-1} takes in
    one completion at a time from the worst upward, so that a single pass gives the normaliser of every stage.
    """
    length, max_order = ranked.shape[1], min(len(log_deltas), ranked.shape[1])
    terms: list[list[Tensor]] = [[] for _ in range(length)]
    for t in range(1, max_order + 1):
        log_e: dict[int, Tensor] = {}
        for n in range(1, length + 1):
            x = ranked[:, length - n] / t
            for k in range(min(t, n), 0, -1):
                with_x = x if k == 1 else log_e[k - 1] + x
                log_e[k] = with_x if k == n else torch.logaddexp(log_e[k], with_x)
            if n >= t:
                terms[length - n].append(log_deltas[t - 1] + log_e[t])
    return torch.stack([torch.logsumexp(torch.stack(stage), dim=0) for stage in terms], dim=1)


def _pad_left(rankings: Sequence[Levels]) -> tuple[Tensor, Tensor, Tensor]:
    """Rankings as rows that all end at their worst: index (G, K), size of the level (0 on padding), first of level."""
    rows = [[(i, len(level), place == 0) for level in levels for place, i in enumerate(level)] for levels in rankings]
    width = max(len(row) for row in rows)
    padded = [[(row[0][0], 0, False)] * (width - len(row)) + row for row in rows]
    index, tie_size, is_first = (torch.tensor([[cell[j] for cell in row] for row in padded]) for j in range(3))
    return index, tie_size, is_first


def _check_levels(levels: Levels, max_tie_order: int) -> None:
    indices = [i for level in levels for i in level]
    if not indices or not all(levels):
        raise ValueError(f"a ranking needs completions at every level, got {levels}")
    if min(indices) < 0:
        raise ValueError(f"indices into the scores are not negative, got {levels}")
    if len(set(indices)) < len(indices):
        raise ValueError(f"a completion stands twice in the ranking {levels}")
    if max(map(len, levels)) > max_tie_order:
        raise ValueError(f"the ranking {levels} ties more completions than the maximum order {max_tie_order}")


def ordering_accuracy(scores: Sequence[float], levels: Levels) -> float | None:
    """Share of the ranking's strictly ordered pairs that the scores order alike, equal scores half; None if all tie."""
    pairs = [
        (better, worse)
        for p, level in enumerate(levels)
        for better in level
        for rest in levels[p + 1 :]
        for worse in rest
    ]
    right = sum((scores[b] > scores[w]) + 0.5 * (scores[b] == scores[w]) for b, w in pairs)
    return right / len(pairs) if pairs else None


# Pairs and ratings


def pair_nll(preferred: Tensor, rejected: Tensor) -> Tensor:
    """Bradley-Terry: -log sigmoid(preferred - rejected), any shape, elementwise."""
    return F.softplus(rejected.float() - preferred.float())


def rating_nll(scores: Tensor, values: Tensor, biases: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(score - bias) with the soft target value in [0, 1]: (M,) each -> (M,)."""
    if bool(((values < 0) | (values > 1) | values.isnan()).any()):
        raise ValueError("ratings lie in [0, 1]")
    return F.binary_cross_entropy_with_logits(scores.float() - biases.float(), values.float(), reduction="none")


def _ratings_nll(scores: Tensor, ratings: Sequence[RatedScore], source_biases: Tensor | None) -> Tensor:
    if not ratings:
        return scores.new_zeros(0, dtype=torch.float32)
    if source_biases is None:
        raise ValueError("ratings need the biases of their sources")
    values = torch.tensor([r.value for r in ratings], dtype=torch.float32, device=scores.device)
    return rating_nll(scores[[r.index for r in ratings]], values, source_biases[[r.source for r in ratings]])


def _corrections_nll(scores: Tensor, corrections: Sequence[CorrectedScore]) -> Tensor:
    preferred, rejected = [c.preferred for c in corrections], [c.rejected for c in corrections]
    return pair_nll(scores[preferred], scores[rejected])
