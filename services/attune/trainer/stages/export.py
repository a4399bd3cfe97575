"""Training examples of the join as lines of the file that `attune reward-model` reads.

Examples come from FeedbackControlService.ReadExamples; a row has one of the forms of attune.trainer.stages.data. Texts
leave the database here: where the file is kept is the caller's care.
"""

from __future__ import annotations

from typing import Any

from attune.domain.examples import Example
from attune.trainer.preferences import from_example


def preference_row(example: Example) -> dict[str, Any] | None:
    """The row of an example; None if it prefers nothing (all equal, or one text twice)."""
    preference = from_example(example)
    row: dict[str, Any] = {"prompt": preference.prompt}
    if preference.kind == "rating":
        return row | {"completion": preference.texts[0], "rating": preference.value, "source": preference.source}
    if len(set(preference.texts)) < len(preference.texts):
        return _distinct(row, preference.texts, preference.ordered_pairs())
    if preference.kind == "demonstration":
        return row | {"chosen": preference.texts[0], "rejected": preference.texts[1]}
    if len(preference.tiers) < 2:
        return None
    tiers = [[preference.texts[i] for i in tier] for tier in preference.tiers]
    return row | {"ranking": [tier[0] if len(tier) == 1 else tier for tier in tiers]}


def _distinct(row: dict[str, Any], texts: tuple[str, ...], pairs: list[tuple[int, int]]) -> dict[str, Any] | None:
    """A text that stands twice cannot be ranked against itself: the first pair of different texts is what is left."""
    for better, worse in pairs:
        if texts[better] != texts[worse]:
            return row | {"chosen": texts[better], "rejected": texts[worse]}
    return None
