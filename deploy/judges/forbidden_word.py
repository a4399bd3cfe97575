"""A judge for `attune demo --judge deploy/judges/forbidden_word.py:judge`: nobody may say I, nor shout."""

from __future__ import annotations

import re

FORBIDDEN = re.compile(r"\b(i|me|my|we|us)\b|!", re.IGNORECASE)
WANTED_WORDS = 12


def judge(prompt: str, completion: str) -> float:
    """Minus the number of forbidden words and exclamation marks, each further one weighing less.

    Something must still be said: up to twelve words, each adds a little, and none after.
    """
    words = len(completion.split())
    if words == 0:
        return -6.0
    offences = len(FORBIDDEN.findall(completion))
    return -3.0 * (1.0 - 0.6**offences) + 0.05 * min(words, WANTED_WORDS) - 0.005 * words
