"""A batch as the passes see it: prompts once, and where each row's logits stand."""

from __future__ import annotations

import numpy as np
from attune.policy.batch import Batch

GROWN = Batch(np.array([7, 8]), np.array([4, 2]), [[1, 2, 3], [5]], [1, 0, 1])
"""Two rows that grow, and three new ones of two prompts."""


def test_tokens_stand_side_by_side_and_each_prompt_once() -> None:
    tokens = GROWN.tokens()
    assert tokens.ids.tolist() == [7, 8, 1, 2, 3, 5]
    assert tokens.rows.tolist() == [0, 1, 3, 3, 3, 2]
    assert tokens.positions.tolist() == [4, 2, 0, 1, 2, 0]
    assert tokens.ends.tolist() == [0, 1, 5, 4, 5]


def test_lengths_are_those_after_the_pass() -> None:
    assert len(GROWN) == 5
    assert GROWN.lengths.tolist() == [5, 3, 1, 3, 1]
    assert GROWN.longest == 5


def test_other_rows_of_a_prompt_are_copies_of_its_first() -> None:
    assert list(GROWN.copies()) == [(2, 4, 1)]


def test_rows_that_only_grow() -> None:
    batch = Batch(np.array([7]), np.array([4]))
    assert (batch.tokens().ids.tolist(), batch.tokens().ends.tolist(), list(batch.copies())) == ([7], [0], [])
