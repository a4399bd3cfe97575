"""Feedback as the reward model's training data: texts to score, and what was said of them.

One `Preference` is one ranking (a comparison is a ranking of two), rating or demonstration over the texts of one
prompt. Stages make them from files, the loop from examples; both train through `batch_of`, which turns several into the
flat sequences and items that attune.trainer.likelihood takes. Refused: nothing; the makers have validated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from attune.domain.examples import Example
from attune.domain.feedback import Comparison, Demonstration, Ranking, Rating
from attune.trainer.likelihood import CorrectedScore, PreferenceItem, RankedScores, RatedScore

Chat = str | list[dict[str, str]]
Tiers = tuple[tuple[int, ...], ...]
MAX_TIE_ORDER = 4
"""Largest tier the likelihood takes as a tie; in a larger one only the first so many count."""


@dataclass(frozen=True)
class Preference:
    """What was said of `texts`, answers to one prompt.

    kind "ranking": `tiers` of indices into texts, best first. "rating": `value` in [0, 1] for texts[0], from `source`.
    "demonstration": texts[0] is what texts[1] should have been.
    """

    prompt: Chat
    texts: tuple[str, ...]
    kind: Literal["ranking", "rating", "demonstration"]
    tiers: Tiers = ()
    value: float = 0.0
    source: str = ""
    weight: float = 1.0

    def ordered_pairs(self) -> list[tuple[int, int]]:
        """(better, worse) index pairs that the preference states; none for a rating."""
        if self.kind == "demonstration":
            return [(0, 1)]
        return [
            (better, worse)
            for p, tier in enumerate(self.tiers)
            for better in tier
            for rest in self.tiers[p + 1 :]
            for worse in rest
        ]


def from_example(example: Example, weight: float = 1.0) -> Preference:
    """The preference that an example holds."""
    prompt = example.prompt.as_chat()
    texts = tuple(c.text for c in example.completions)
    at = {c.id: i for i, c in enumerate(example.completions)}
    match example.event.feedback:
        case Rating(completion_id, value):
            source = example.event.source
            text = texts[at[completion_id]]
            return Preference(prompt, (text,), "rating", value=value, source=source, weight=weight)
        case Comparison(chosen, rejected):
            return Preference(prompt, texts, "ranking", tiers=((at[chosen],), (at[rejected],)), weight=weight)
        case Ranking(tiers):
            indices = tuple(tuple(at[c] for c in tier) for tier in tiers)
            return Preference(prompt, texts, "ranking", tiers=indices, weight=weight)
        case Demonstration(completion_id, text):
            return Preference(prompt, (text, texts[at[completion_id]]), "demonstration", weight=weight)
    raise TypeError(f"unknown feedback {type(example.event.feedback).__name__}")


@dataclass(frozen=True)
class PreferenceBatch:
    """Sequences to score, as (prompt, text), and items that point into their scores."""

    sequences: tuple[tuple[Chat, str], ...]
    items: tuple[PreferenceItem, ...]


def batch_of(preferences: Sequence[Preference], sources: Mapping[str, int]) -> PreferenceBatch:
    """Flattens preferences; `sources` maps a rating's source to its index among the biases."""
    sequences: list[tuple[Chat, str]] = []
    items: list[PreferenceItem] = []
    for p in preferences:
        start = len(sequences)
        sequences.extend((p.prompt, text) for text in p.texts)
        items.append(_item(p, start, sources))
    return PreferenceBatch(tuple(sequences), tuple(items))


def _item(p: Preference, start: int, sources: Mapping[str, int]) -> PreferenceItem:
    if p.kind == "rating":
        return RatedScore(start, p.value, sources[p.source], p.weight)
    if p.kind == "demonstration":
        return CorrectedScore(start, start + 1, p.weight)
    return RankedScores([[start + i for i in tier[:MAX_TIE_ORDER]] for tier in p.tiers], p.weight)
