"""Forms: sentences with slots, and how they are filled, found again in a text, and drawn by weight.

A form is one sentence with the slots {name}, {thing} and {order}. It belongs to a part of a turn (greeting, action, …),
is an option of that part, and may have a topic that it fits (an intent, a mood, a kind of harm). Prompts and answers
are both made of forms; the same table that writes a sentence recognises it, so that grammar and judge cannot drift
apart. Refused: forms that are not exactly one sentence.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

SENTENCE = re.compile(r"[^.?!]+[.?!]*")
SLOT = re.compile(r"\{(name|thing|order)\}")
ANY_SLOT_TEXT = {"name": r"[^\W\d]+", "thing": r"\w+(?: \w+){0,3}?", "order": r"\d+"}


class Quality(StrEnum):
    """How well an answer is meant to be written; chance decides its details."""

    BAD = "bad"
    MIDDLING = "middling"
    GOOD = "good"


@dataclass(frozen=True)
class Form:
    """One sentence. `topic` is empty when it fits everywhere; `rank` is its place among its variants."""

    part: str
    option: str
    topic: str
    text: str
    rank: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^.?!]+[.?!]", self.text):
            raise ValueError(f"a form is one sentence with its full stop: {self.text!r}")

    @cached_property
    def slots(self) -> frozenset[str]:
        return frozenset(SLOT.findall(self.text))

    def fill(self, facts: Mapping[str, str]) -> str:
        """The sentence with every slot filled; KeyError when a fact is missing."""
        return SLOT.sub(lambda slot: facts[slot[1]], self.text)

    def pattern(self, slot_texts: Mapping[str, str] = ANY_SLOT_TEXT) -> re.Pattern[str]:
        """Matches the normal form of this sentence; the groups are the slots."""
        pieces = SLOT.split(self.text.casefold())
        for i in range(1, len(pieces), 2):
            pieces[i] = f"(?P<{pieces[i]}>{slot_texts[pieces[i]]})"
        pieces[0::2] = [re.escape(piece) for piece in pieces[0::2]]
        return re.compile("".join(pieces))


@dataclass(frozen=True)
class Say:
    """A choice in a profile: an option of a part, with a fitting topic or not, with true facts or not."""

    option: str
    fits: bool = True
    is_true: bool = True


# A turn: its parts in order, each with the weights of what may be said there; None is silence.
Profile = tuple[tuple[str, Mapping[Say | None, float]], ...]


@dataclass(frozen=True)
class Language:
    """One kind of conversation: what it is about, its prompts, and its answers by quality."""

    kind: str
    things: Mapping[str, Sequence[str]]
    """By topic, the things a prompt of that topic may be about."""
    moods: Sequence[str]
    prompt_forms: tuple[Form, ...]
    prompt_profile: Profile
    answer_forms: tuple[Form, ...]
    answer_profiles: Mapping[Quality, Profile]
    rivals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By part, the parts that are left unsaid once it was said, so that no answer both complies and refuses."""


def forms(part: str, option: str, topic: str, *texts: str) -> tuple[Form, ...]:
    """Variants of one sentence."""
    return tuple(Form(part, option, topic, text, rank) for rank, text in enumerate(texts))


def words(text: str) -> tuple[str, ...]:
    """The words of a table that is written as one line."""
    return tuple(text.split())


def draw(weights: Mapping[Say | None, float], rng: random.Random) -> Say | None:
    """One choice by its weight; the weights need not sum to one."""
    return rng.choices(list(weights), list(weights.values()))[0]


def sentences(text: str) -> list[str]:
    """The sentences of a text in normal form, their punctuation kept; a cut-off last one has none."""
    return [piece for piece in (found.strip() for found in SENTENCE.findall(normal_form(text))) if piece]


def normal_form(text: str) -> str:
    """Lower case and single spaces."""
    return " ".join(text.casefold().split())
