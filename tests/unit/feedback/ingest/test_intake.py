"""What the intake decides for every door: order, time limits, and what is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import EventLogUnavailable, FeedbackConflict, InvalidInput
from attune.domain.feedback import Rating
from attune.feedback.ingest.acceptor import Acceptor, Receipt
from attune.feedback.ingest.intake import Intake
from attune.feedback.ingest.metrics import IngestMetrics
from feedback_samples import a_ranking, an_event, completion
from prometheus_client import CollectorRegistry
from unit.feedback.ingest.gated import PATIENCE_S, GatedProducer


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def intake(gated: GatedProducer, registry: CollectorRegistry) -> AsyncIterator[Intake]:
    async with Acceptor(gated) as acceptor:
        yield Intake(acceptor, IngestMetrics(registry), log_timeout_s=PATIENCE_S)
        gated.gate.set()


def counted(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    (family,) = [found for found in registry.collect() if found.name == "attune_feedback_events"]
    return {
        (s.labels["kind"], s.labels["outcome"]): s.value for s in family.samples if s.name.endswith("_events_total")
    }


async def test_outcomes_come_in_the_order_of_messages_and_events_and_are_counted_together(
    intake: Intake, gated: GatedProducer, registry: CollectorRegistry
) -> None:
    gated.gate.set()
    ranking = an_event(2, a_ranking(completion(1), completion(1, 1))).to_proto()
    first = intake.begin([an_event(1).to_proto(), feedback_pb2.FeedbackEvent(), ranking], "events[{}]")
    second = intake.begin([an_event(1).to_proto(), an_event(1, Rating(completion(1), 0.5)).to_proto()], "events[{}]")
    for taken in (first, second):
        await intake.wait(taken, PATIENCE_S)
    outcomes = intake.finish(first, second)
    assert [type(outcome) for outcome in outcomes] == [Receipt, InvalidInput, Receipt, Receipt, FeedbackConflict]
    assert outcomes[1].violations[0].field.startswith("events[1]")
    assert counted(registry) == {
        ("rating", "accepted"): 1,
        ("none", "invalid"): 1,
        ("ranking", "accepted"): 1,
        ("rating", "repeated"): 1,
        ("rating", "conflict"): 1,
    }
    assert registry.get_sample_value("attune_feedback_ack_duration_seconds_count") == 1
    assert registry.get_sample_value("attune_feedback_repeated_total") == 1
    assert registry.get_sample_value("attune_feedback_conflicts_total", {"where": "ingest"}) == 1


async def test_a_single_event_is_named_as_its_request_names_it(intake: Intake, registry: CollectorRegistry) -> None:
    (refused,) = intake.finish(intake.begin([feedback_pb2.FeedbackEvent()], "event"))
    assert refused.violations[0].field == "event.event_id"
    assert registry.get_sample_value("attune_feedback_ack_duration_seconds_count") == 0


@pytest.mark.parametrize(("time_left_s", "log_timeout_s"), [(0.02, 60.0), (60.0, 0.02)])
async def test_a_caller_is_told_within_its_time_that_the_log_is_silent(
    gated: GatedProducer, registry: CollectorRegistry, time_left_s: float, log_timeout_s: float
) -> None:
    async with Acceptor(gated) as acceptor:
        intake = Intake(acceptor, IngestMetrics(registry), log_timeout_s=log_timeout_s)
        taken = intake.begin([an_event().to_proto()], "event")
        await intake.wait(taken, time_left_s)
        (late,) = intake.finish(taken)
        assert isinstance(late, EventLogUnavailable)
        assert late.retry_after_s
        gated.gate.set()
    assert counted(registry) == {("rating", "log_unavailable"): 1}
