"""Which feedback events stand on the wire exactly as Attune would write them: the fast half of validation.

`FeedbackEvent.from_proto` holds the rules, says what is wrong, and mends spellings (upper case in an id, a time finer
than a microsecond). Most events need none of that. `is_canonical` finds them at a fraction of the cost: from_proto
would take such an event, and to_proto would give back the same message. Where it is False nothing is known, and
from_proto decides. A property test holds the two together; the rules of single values are shared functions.

Ingest lives on this: a canonical event goes into the log as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attune.api.types.v1 import feedback_pb2
from attune.domain.feedback import MAX_RANKED, is_demonstration, is_rating
from attune.domain.generations import is_name
from attune.domain.ids import is_canonical_completion_id, is_canonical_uuid

_LATEST_S = 1 << 32
"""Before it, seconds as a float hold microseconds exactly enough to come back; from_proto looks at later times."""


def is_canonical(proto: feedback_pb2.FeedbackEvent) -> bool:
    """See the module. Fields that this program does not know are not looked at: discard them first."""
    kind = proto.WhichOneof("feedback")
    source = proto.source
    return (
        kind is not None
        and is_canonical_uuid(proto.event_id) is not None
        and is_name(proto.app_id)
        and is_name(proto.subject_id)
        and (not source or is_name(source))
        and (not proto.HasField("occurred_time") or _is_canonical_time(proto))
        and _BY_KIND[kind](proto)
    )


def _is_canonical_time(proto: feedback_pb2.FeedbackEvent) -> bool:
    stamp = proto.occurred_time
    seconds, nanos = stamp.seconds, stamp.nanos
    return 0 <= seconds < _LATEST_S and 0 <= nanos < 1_000_000_000 and not nanos % 1000 and bool(seconds or nanos)


def _is_canonical_rating(proto: feedback_pb2.FeedbackEvent) -> bool:
    rating = proto.rating
    return is_rating(rating.value) and is_canonical_completion_id(rating.completion_id) is not None


def _is_canonical_comparison(proto: feedback_pb2.FeedbackEvent) -> bool:
    chosen, rejected = proto.comparison.chosen_completion_id, proto.comparison.rejected_completion_id
    return (
        chosen != rejected
        and is_canonical_completion_id(chosen) is not None
        and is_canonical_completion_id(rejected) is not None
    )


def _is_canonical_ranking(proto: feedback_pb2.FeedbackEvent) -> bool:
    tiers = [tier.completion_ids for tier in proto.ranking.tiers]
    names = [name for tier in tiers for name in tier]
    return (
        all(tiers)
        and 2 <= len(names) <= MAX_RANKED
        and len(set(names)) == len(names)
        and all(map(is_canonical_completion_id, names))
    )


def _is_canonical_demonstration(proto: feedback_pb2.FeedbackEvent) -> bool:
    demonstration = proto.demonstration
    return is_canonical_completion_id(demonstration.completion_id) is not None and is_demonstration(demonstration.text)


_BY_KIND: Mapping[str, Callable[[feedback_pb2.FeedbackEvent], bool]] = {
    "rating": _is_canonical_rating,
    "comparison": _is_canonical_comparison,
    "ranking": _is_canonical_ranking,
    "demonstration": _is_canonical_demonstration,
}
