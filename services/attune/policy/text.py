"""Text of a completion while it grows: whole characters only, stop strings cut, and never a retraction.

Tokens of a byte-level tokenizer may end inside a character, so what is not yet a whole character is held back, and so
is a tail that may turn out to be the start of a stop string.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"


class GrowingText:
    """The text of one completion. `add` takes tokens and returns what may be shown now; `stopped` says a stop string
    appeared, after which nothing more is shown."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        self._shown = 0
        self._text = ""
        self.stopped = False

    @property
    def text(self) -> str:
        """The whole text up to now, stop string and what follows cut."""
        return self._text

    def add(self, tokens: Sequence[int], is_last: bool = False) -> str:
        """New text; with `is_last` all that was held back."""
        self._tokens.extend(tokens)
        if self.stopped:
            return ""
        self._text = str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))
        found = [at for s in self._stop if (at := self._text.find(s)) >= 0]
        if found:
            self._text, self.stopped = self._text[: min(found)], True
        end = len(self._text) if is_last or self.stopped else self._safe_end()
        new = self._text[self._shown : max(end, self._shown)]
        self._shown += len(new)
        return new

    def _safe_end(self) -> int:
        """Up to where no later token can change or cut the text."""
        text = self._text
        end = len(text)
        while end and text[end - 1] == BROKEN:
            end -= 1
        for stop in self._stop:
            for length in range(min(len(stop) - 1, end), 0, -1):
                if text[:end].endswith(stop[:length]):
                    end -= length
                    break
        return end
