"""What goes through a forward pass at once: the newest token of each growing row, and the prompts of new rows.

The decoder makes it; the passes of attune.policy.forward read it, padded or as one flat list of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class FlatTokens:
    """Tokens side by side, (N,) int64 each: their ids, the row each belongs to and its position there. `ends` (R,): for
    each row of the batch the token whose logits are wanted."""

    ids: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Batch:
    """`last` (r,) int64 are the newest tokens of rows 0..r-1, at `positions` (r,) of them; the rows behind them are new
    and begin with prompts[source[i]], so that completions of one prompt share its pass."""

    last: np.ndarray
    positions: np.ndarray
    prompts: Sequence[Sequence[int]] = ()
    source: Sequence[int] = ()

    def __len__(self) -> int:
        """Rows, the new ones included."""
        return len(self.last) + len(self.source)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row after the pass: (R,) int64."""
        new = [len(self.prompts[source]) for source in self.source]
        return np.concatenate([self.positions + 1, np.array(new, dtype=np.int64)])

    @property
    def longest(self) -> int:
        return int(self.lengths.max())

    def tokens(self) -> FlatTokens:
        """Each prompt once, in the first of its rows."""
        grown = len(self.last)
        lengths = np.array([len(prompt) for prompt in self.prompts], dtype=np.int64)
        ends = grown + np.cumsum(lengths) - 1
        first = [grown + self.source.index(i) for i in range(len(self.prompts))]
        return FlatTokens(
            ids=np.concatenate([self.last, *(np.array(prompt, dtype=np.int64) for prompt in self.prompts)]),
            rows=np.concatenate([np.arange(grown), np.repeat(np.array(first, dtype=np.int64), lengths)]),
            positions=np.concatenate([self.positions, *(np.arange(n) for n in lengths)]),
            ends=np.concatenate([np.arange(grown), ends[list(self.source)]]),
        )

    def copies(self) -> Iterator[tuple[int, int, int]]:
        """(from row, to row, tokens) by which the other rows of each prompt get what its pass has left."""
        grown = len(self.last)
        for i, source in enumerate(self.source):
            if (first := self.source.index(source)) != i:
                yield grown + first, grown + i, len(self.prompts[source])
