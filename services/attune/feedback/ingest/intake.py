"""What every door does with events: read them, hand them to the acceptor, wait for the log, count.

Doors differ in how events come and how answers go; what an event means and what becomes of it is decided here, once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import (
    AttuneError,
    EventLogUnavailable,
    FeedbackConflict,
    InvalidInput,
    PermissionDenied,
    QueueFull,
)
from attune.feedback.ingest.acceptor import Acceptor, Outcome, Submission
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.reading import RefusedEvent, read_or_refuse
from attune.platform import tracing

MAX_EVENTS = 1000
"""Most events of one message."""
HASTE = 0.9
"""Share of a call's time after which it is told that the log has not answered; the rest is for the answer to travel."""
OUTCOMES: dict[type[AttuneError], str] = {
    InvalidInput: "invalid",
    PermissionDenied: "forbidden",
    FeedbackConflict: "conflict",
    QueueFull: "queue_full",
    EventLogUnavailable: "log_unavailable",
}

NOTHING: Mapping[int, AttuneError] = MappingProxyType({})

Protos = Sequence[feedback_pb2.FeedbackEvent]


class Taken:
    """The events of one message on their way, and when they came."""

    def __init__(self, protos: Protos, kinds: list[str], submission: Submission) -> None:
        self.protos, self.kinds, self.submission = protos, kinds, submission
        self.started = time.monotonic()


class Intake:
    """See the module. No event waits longer than `log_timeout_s` for the event log."""

    def __init__(self, acceptor: Acceptor, metrics: IngestMetrics, *, log_timeout_s: float = 10.0) -> None:
        self._acceptor, self._metrics, self._log_timeout_s = acceptor, metrics, log_timeout_s

    def begin(self, protos: Protos, field: str, refused: Mapping[int, AttuneError] = NOTHING) -> Taken:
        """Reads and queues events; those that do not hold are refused one by one.

        `field` is where they stand in the request, for those who read a refusal: "event", or "events[{}]". `refused`
        are those that the door refuses, by index.
        """
        received = [read_or_refuse(proto, field, index) for index, proto in enumerate(protos)]
        for index, error in refused.items():
            received[index] = RefusedEvent(received[index].kind, error)
        kinds = [event.kind for event in received]
        tracing.note({"attune.events": len(protos)})
        return Taken(protos, kinds, self._acceptor.submit(received))

    async def wait(self, taken: Taken, time_left_s: float) -> None:
        """Returns when it is decided what becomes of the events, before the time is up."""
        await taken.submission.wait(min(HASTE * time_left_s, self._log_timeout_s))

    def finish(self, *taken: Taken) -> list[Outcome]:
        """What became of the events of decided messages, in their order, oldest message first; counts them."""
        outcomes = [outcome for message in taken for outcome in message.submission.outcomes]
        found: dict[tuple[str, str], int] = {}
        kinds = [kind for message in taken for kind in message.kinds]
        for kind, outcome in zip(kinds, outcomes, strict=True):
            label = kind, _name(outcome)
            found[label] = found.get(label, 0) + 1
        self._metrics.count(found, time.monotonic() - taken[0].started)
        return outcomes


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, AttuneError):
        return OUTCOMES.get(type(outcome), "failed")
    return "repeated" if outcome.repeated_event else "accepted"
