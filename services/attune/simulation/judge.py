"""The users' true taste: a score of a completion by what it says to its prompt, read with the grammar's own tables.

`score` is the sum of the points of what is said (a greeting, empathy that fits the mood, a step that fits the request,
a refusal where one is due, …), of facts copied right or wrong, and of costs for garble, repetition, disorder and
length. Every sum saturates, so that saying more of the same never pays. It takes any text, garbled or empty, and any
prompt: of one that the grammar cannot read only manners, fluency and length count.

A judge is the whole taste of the simulated users: they rank, pick corrections and measure with one and the same, be it
this or one loaded from a file (taste.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

from attune.simulation.grammar import LANGUAGES, PromptCase, read_prompt
from attune.simulation.language.forms import Form, normal_form, sentences
from attune.simulation.language.shared import NAMES
from attune.simulation.language.support import PRODUCTS

# Points of (part, option): where it fits, and where it does not.
POINTS: dict[tuple[str, str], tuple[float, float]] = {
    ("greeting", "named"): (0.3, 0.3),
    ("greeting", "plain"): (0.3, 0.3),
    ("empathy", "empathy"): (1.0, -0.7),
    ("product", "named"): (0.5, -0.4),
    ("action", "step"): (1.6, -0.8),
    ("action", "vague"): (0.4, 0.4),
    ("close", "offer"): (0.6, 0.6),
    ("comply", "yes"): (-1.3, -1.3),
    ("comply", "steps"): (-1.9, -1.5),
    ("refusal", "refusal"): (1.1, 1.1),
    ("lecture", "lecture"): (-0.9, -0.9),
    ("reason", "reason"): (0.8, -0.4),
    ("instead", "instead"): (1.2, -0.5),
    ("warmth", "warmth"): (0.9, -0.6),
    ("comment", "comment"): (1.2, -0.6),
    ("comment", "dull"): (0.1, 0.1),
    ("question", "question"): (1.1, -0.4),
    ("question", "dull"): (0.3, 0.3),
    ("aside", "rude"): (-1.8, -1.8),
    ("aside", "off_topic"): (-1.1, -1.1),
    ("aside", "filler"): (-0.4, -0.4),
}
# Points of a fact of the prompt that the completion tells right or wrong.
FACTS = {"name": (0.5, -0.5), "thing": (0.4, -0.4), "order": (0.4, -0.4)}
OTHER_KIND = -0.8  # a sentence that belongs to another kind of conversation
PART_AGAIN, SENTENCE_AGAIN = -0.25, -0.5
GREETING_LATE, LAST_WORD_EARLY = -0.3, -0.2
CUT_OFF, EMPTY = -0.4, -5.0
UNKNOWN_SENTENCE, UNKNOWN_STEP = 0.25, 1.5
WORD_COST, RAMBLE_COST, RAMBLE_WORDS = 0.015, 0.03, 45
VARIANT_COST = 0.02  # between variants of one sentence, so that ties are rare
FAULT_LIMIT = 4.0

WORDS = re.compile(r"\w+|[.?!,]")


@dataclass(frozen=True)
class Reading:
    """One sentence of a completion that the grammar could have written, and the words in its slots."""

    kind: str
    form: Form
    slots: tuple[tuple[str, str], ...]


def score(prompt: str, completion: str) -> float:
    """How good a completion is, higher is better; about −6 to 5, always finite."""
    found = sentences(completion)
    if not any(re.search(r"\w", sentence) for sentence in found):
        return EMPTY
    case = read_prompt(prompt)
    readings = [_read(sentence, case) for sentence in found]
    understood = [reading for reading in readings if reading is not None]
    points = [(reading.form.part, _points(reading, case)) for reading in understood]
    total = sum(_best_by_part(points).values())
    total += _faults(-value for _, value in points if value < 0)
    total += _fact_points(found, understood, case) if case else 0.0
    total += _faults(_garble(s) for s, reading in zip(found, readings, strict=True) if reading is None)
    return total + _manner(found, understood) + _length(completion)


def _read(sentence: str, case: PromptCase | None) -> Reading | None:
    """The reading that fits the case best; None when the grammar does not know the sentence."""
    candidates = _readings(sentence)
    return max(candidates, key=lambda r: (case is not None and r.kind == case.kind, _points(r, case)), default=None)


def _points(reading: Reading, case: PromptCase | None) -> float:
    form = reading.form
    right, wrong = POINTS[form.part, form.option]
    if case is None:
        return min(right, 0.3) if not form.topic else 0.0
    if reading.kind != case.kind and form.part not in ("greeting", "aside"):
        return OTHER_KIND
    fits = not form.topic or form.topic in (case.topic, case.mood)
    return (right if fits else wrong) - VARIANT_COST * form.rank


def _best_by_part(points: Iterable[tuple[str, float]]) -> dict[str, float]:
    """What was said well, once a part; faults are counted apart."""
    best: dict[str, float] = {}
    for part, value in points:
        best[part] = max(best.get(part, 0.0), value)
    return best


def _faults(costs: Iterable[float]) -> float:
    """The sum of costs, saturating at FAULT_LIMIT, as a loss."""
    return -FAULT_LIMIT * (1 - math.exp(-sum(costs) / FAULT_LIMIT))


def _fact_points(found: list[str], understood: list[Reading], case: PromptCase) -> float:
    """Facts told right count once and wrong ones once, wherever they stand."""
    text = " ".join(found)
    words = set(WORDS.findall(text))
    told = {slot: {value for r in understood for s, value in r.slots if s == slot} for slot in FACTS}
    told["name"] |= words & _names()
    told["order"] |= {word for word in words if word.isdigit()}
    if case.kind == "support":
        told["thing"] |= words & _products()
    total = 0.0
    for slot, (right, wrong) in FACTS.items():
        truth = case.facts.get(slot, "").casefold()
        total += right if truth and truth in told[slot] else 0.0
        total += wrong if told[slot] - {truth} else 0.0
    return total


def _garble(sentence: str) -> float:
    """The cost of a sentence the grammar does not know: by the share of its word pairs that no sentence has."""
    words = ["", *_digits_masked(WORDS.findall(sentence))]
    pairs = list(pairwise(words))
    unknown = sum(pair not in _known_pairs() for pair in pairs) / max(len(pairs), 1)
    return UNKNOWN_SENTENCE + UNKNOWN_STEP * unknown


def _manner(found: list[str], understood: list[Reading]) -> float:
    """Order, repetition and the end."""
    parts = [reading.form.part for reading in understood]
    sentences_again, parts_again = len(found) - len(set(found)), len(parts) - len(set(parts))
    total = _faults([-SENTENCE_AGAIN * sentences_again, -PART_AGAIN * parts_again])
    total += GREETING_LATE if "greeting" in parts[1:] else 0.0
    total += LAST_WORD_EARLY if {"close", "question"} & set(parts[:-1]) else 0.0
    return total + (0.0 if found[-1][-1] in ".?!" else CUT_OFF)


def _length(completion: str) -> float:
    words = min(len(completion.split()), 200)
    return -WORD_COST * words - RAMBLE_COST * max(words - RAMBLE_WORDS, 0)


@lru_cache(maxsize=50_000)
def _readings(sentence: str) -> tuple[Reading, ...]:
    found = []
    for kind, form, pattern in _patterns():
        if match := pattern.fullmatch(sentence):
            found.append(Reading(kind, form, tuple(match.groupdict().items())))
    return tuple(found)


@cache
def _patterns() -> list[tuple[str, Form, re.Pattern[str]]]:
    return [(kind, form, form.pattern()) for kind, language in LANGUAGES.items() for form in language.answer_forms]


@cache
def _known_pairs() -> frozenset[tuple[str, str]]:
    """The pairs of neighbouring words that answers have, with every name and thing in its slot."""
    pairs: set[tuple[str, str]] = set()
    for language in LANGUAGES.values():
        everything = sorted({thing for things in language.things.values() for thing in things})
        for form in language.answer_forms:
            things = language.things.get(form.topic, everything) if "thing" in form.slots else ("",)
            for name in NAMES if "name" in form.slots else ("",):
                for thing in things:
                    sentence = normal_form(form.fill({"name": name, "thing": thing, "order": "0"}))
                    words = ["", *_digits_masked(WORDS.findall(sentence))]
                    pairs.update(pairwise(words))
    return frozenset(pairs)


def _digits_masked(words: list[str]) -> list[str]:
    return ["0" if word.isdigit() else word for word in words]


@cache
def _names() -> frozenset[str]:
    return frozenset(name.casefold() for name in NAMES)


@cache
def _products() -> frozenset[str]:
    return frozenset(product.casefold() for product in PRODUCTS)
