"""A judge for `attune demo --judge deploy/judges/opening.py:judge`: an answer should open with thanks, and early."""

from __future__ import annotations

import re

WANTED = re.compile(r"\b(thank you|thanks|glad|good to|nice to|sorry)\b")


def judge(prompt: str, completion: str) -> float:
    """How early the first kind word comes: 3 at the very start, falling to 0 by the thirtieth word, −1 without.

    A mild length cost keeps long answers from winning ties; silence is worst.
    """
    if not completion.strip():
        return -4.0
    text = completion.casefold()
    length_cost = 0.01 * len(text.split())
    found = WANTED.search(text)
    if found is None:
        return -1.0 - length_cost
    words_before = len(text[: found.start()].split())
    return 3.0 * max(0.0, 1.0 - words_before / 30) - length_cost
