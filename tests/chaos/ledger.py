"""What the senders know: which events were acknowledged, in which body, and every answer that must not be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from attune.client import FeedbackEvent
from attune.domain.ids import uuid_bytes


class Said(NamedTuple):
    """An event in one of its bodies: id and hash of the body, 16 and 32 bytes."""

    event_id: bytes
    body_hash: bytes

    @classmethod
    def of(cls, event: FeedbackEvent) -> Said:
        return cls(uuid_bytes(event.event_id), event.body_hash)


class Outcome(StrEnum):
    """What a sender makes of an answer, or of none."""

    TAKEN = "acknowledged"
    CONFLICT = "refused as a conflict"
    AGAIN = "to be sent again"
    WRONG = "refused for no reason"


@dataclass(frozen=True)
class Answer:
    """`detail` says what came, where it is worth telling."""

    outcome: Outcome
    detail: str = ""


class Ledger:
    """`again(event)` may give one more thing to send after an event was acknowledged; `resend` takes it."""

    def __init__(
        self, again: Callable[[FeedbackEvent], FeedbackEvent | None], resend: Callable[[FeedbackEvent], None]
    ) -> None:
        self._again, self._resend = again, resend
        self.acknowledged: set[Said] = set()
        self.answers: Counter[tuple[str, Outcome]] = Counter()
        self.wrong: list[str] = []
        self._bodies: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._ids: set[bytes] = set()

    @property
    def acknowledged_ids(self) -> int:
        """Distinct events of which at least one body was acknowledged."""
        return len(self._ids)

    @property
    def sent_again(self) -> int:
        """How often an event had to be sent again, because no answer came or the answer was to come back later."""
        return sum(count for (_, outcome), count in self.answers.items() if outcome is Outcome.AGAIN)

    def sent(self, event: FeedbackEvent) -> None:
        """Notes a body before it leaves."""
        said = Said.of(event)
        self._bodies[said.event_id].add(said.body_hash)

    def answered(self, door: str, event: FeedbackEvent, answer: Answer) -> bool:
        """Notes an answer; returns whether the event is done with."""
        if answer.outcome is Outcome.AGAIN:  # most answers while something is away: nothing is worked out for them
            self.answers[door, Outcome.AGAIN] += 1
            return False
        said, outcome = Said.of(event), answer.outcome
        if outcome is Outcome.CONFLICT and len(self._bodies[said.event_id]) == 1:
            outcome = Outcome.WRONG
        self.answers[door, outcome] += 1
        if outcome is Outcome.WRONG:
            self.wrong.append(f"{door}: {event.event_id}: {answer.outcome} {answer.detail}")
        elif outcome is Outcome.TAKEN:
            self._take(said, event)
        return True

    def _take(self, said: Said, event: FeedbackEvent) -> None:
        is_first = said.event_id not in self._ids
        self.acknowledged.add(said)
        self._ids.add(said.event_id)
        if is_first and (more := self._again(event)) is not None:
            self._resend(more)
