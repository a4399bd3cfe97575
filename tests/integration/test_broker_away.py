"""Ingest while its Kafka broker is away: callers hear so in time, nothing piles up, and it goes on by itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from attune.client import Client, Demonstration, FeedbackEvent, RetryPolicy, new_event
from attune.domain.errors import EventLogUnavailable
from attune.platform.events.settings import KafkaSettings
from broker import Broker
from feedback_samples import APP, completion
from support.eventually import eventually_sync
from support.processes import Process, running

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]
ONCE = RetryPolicy(attempts=1)
DEADLINE_S = 15.0
CALLERS, CALLS = 4, 40
GROWTH_MIB = 24
TEXT = "x" * 90_000


def an_event() -> FeedbackEvent:
    return new_event(APP, Demonstration(completion(1), TEXT), subject_id="ada")


def is_taken(client: Client) -> bool:
    try:
        client.submit(an_event(), timeout_s=DEADLINE_S)
    except EventLogUnavailable:
        return False
    return True


def refused(client: Client, calls: int, waits_s: list[float]) -> None:
    for _ in range(calls):
        began = time.monotonic()
        with pytest.raises(EventLogUnavailable) as caught:
            client.submit(an_event(), timeout_s=DEADLINE_S)
        assert caught.value.retry_after_s
        waits_s.append(time.monotonic() - began)


def from_many(client: Client, waits_s: list[float]) -> None:
    callers = [threading.Thread(target=refused, args=[client, CALLS, waits_s]) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def test_callers_hear_in_time_memory_is_bounded_and_it_goes_on_by_itself(
    tmp_path: Path, broker: Broker, kafka_settings: KafkaSettings
) -> None:
    flags = [f"kafka.bootstrap={kafka_settings.bootstrap}", f"kafka.topic_prefix={kafka_settings.topic_prefix}"]
    flags += ["kafka.append_timeout_s=1", "kafka.request_timeout_s=1"]
    ingest = Process(tmp_path, "ingest", "app.port", flags)
    waits_s: list[float] = []
    broker.kill()
    try:
        with running(ingest), Client(app_id=APP, feedback_address=ingest.address, retry=ONCE) as client:
            client.wait_until_serving(60)  # it starts without its broker
            from_many(client, waits_s)  # every thread and buffer that calls need is there now
            before_mib = ingest.resident_mib
            from_many(client, waits_s)
            assert ingest.resident_mib - before_mib < GROWTH_MIB
            broker.start()
            eventually_sync(lambda: is_taken(client), 30)
            broker.kill()
            refused(client, 1, waits_s)
            broker.start()
            eventually_sync(lambda: is_taken(client), 30)
            assert ingest.stop() == 0
    finally:
        if broker.pid is None:
            broker.start()
    assert len(waits_s) == 1 + 2 * CALLERS * CALLS
    assert max(waits_s) < DEADLINE_S - 5
