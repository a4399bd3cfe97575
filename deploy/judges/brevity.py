"""A judge for `attune demo --judge deploy/judges/brevity.py:judge`: about six words are best, silence is not."""

from __future__ import annotations

import math

BEST_WORDS = 6


def judge(prompt: str, completion: str) -> float:
    """Minus the distance from six words, on a log scale; between equal counts, the shorter words win."""
    words = completion.split()
    if not words:
        return -10.0
    mean_word_length = len(completion) / len(words)
    return -2.0 * abs(math.log(len(words) / BEST_WORDS)) - 0.05 * mean_word_length
