"""Recording: durable before the answer, late when the log is slow, and ids that count once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from attune.api.events.v1 import events_pb2
from attune.domain.errors import EventLogUnavailable, GenerationIdReused
from attune.domain.generations import Completion, FinishReason, Generation, Purpose, RevisionSpan, Sampling
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.platform.events.log import Position
from attune.policy.metrics import PolicyMetrics
from attune.policy.recorder import MAX_RECORD_BYTES, Recorder, records
from prometheus_client import CollectorRegistry
from support.eventually import eventually

REVISION = "policies/support/revisions/1"


class Log:
    """A producer that can be made slow, or unavailable, as a disk may be."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.is_down = self.is_untrimmable = False
        self.may_write = threading.Event()
        self.may_write.set()
        self.trimmed = 0

    def append(self, values: Sequence[bytes]) -> list[Position]:
        self.may_write.wait(10)
        if self.is_down:
            raise EventLogUnavailable("the disk is full")
        self.values.extend(values)
        return [Position(0, i) for i in range(len(values))]

    def trim(self, now_s: float) -> int:
        self.trimmed += 1
        if self.is_untrimmable:
            raise EventLogUnavailable("the disk is full")
        return 0

    def close(self) -> None: ...

    def ids(self) -> list[str]:
        return [g.id for v in self.values for g in events_pb2.GenerationBatch.FromString(v).generations]


def generation(text: str = "fine") -> Generation:
    id = uuid7()
    completion = Completion(f"{id}/0", text, (5, 1), (-1.0, -0.5), FinishReason.EOS, (RevisionSpan(REVISION, 0, 2),))
    return Generation(id, "app", "ada", Prompt.user("hello"), (5,), (completion,), REVISION, Sampling(seed=1),
                      Purpose.USER, 1.0)  # fmt: skip


@pytest.fixture
def measured() -> CollectorRegistry:
    return CollectorRegistry()


def recorder(log: Log, measured: CollectorRegistry, **how) -> Recorder:
    return Recorder(log, PolicyMetrics(measured), **({"wait_s": 5.0} | how))


def unrecorded(measured: CollectorRegistry, reason: str) -> float:
    return measured.get_sample_value("attune_generations_unrecorded_total", {"reason": reason}) or 0.0


async def test_what_is_recorded_is_on_the_log(measured: CollectorRegistry) -> None:
    log, asked = Log(), generation()
    with recorder(log, measured) as made:
        assert await made.record(asked)
        assert log.ids() == [asked.id]
    (value,) = log.values
    assert Generation.from_proto(events_pb2.GenerationBatch.FromString(value).generations[0]) == asked


async def test_a_slow_log_serves_unrecorded_and_writes_later(measured: CollectorRegistry) -> None:
    log, asked = Log(), generation()
    log.may_write.clear()
    with recorder(log, measured, wait_s=0.01) as made:
        assert not await made.record(asked)
        assert unrecorded(measured, "log_slow") == 1
        log.may_write.set()
        await eventually(lambda: log.ids() == [asked.id])


async def test_an_unavailable_log_loses_nothing(measured: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.policy.recorder.RETRY_S", 0.01)
    log = Log()
    log.is_down = True
    asked = [generation() for _ in range(3)]
    with recorder(log, measured, wait_s=0.01) as made:
        assert [await made.record(g) for g in asked] == [False] * 3
        log.is_down = False
        await eventually(lambda: len(log.ids()) == 3)
    assert log.ids() == [g.id for g in asked]


async def test_a_log_that_cannot_be_trimmed_now_is_written_on(measured: CollectorRegistry) -> None:
    log, asked = Log(), [generation() for _ in range(3)]
    log.is_untrimmable = True
    with recorder(log, measured, trim_interval_s=0.0) as made:
        assert [await made.record(g) for g in asked] == [True] * 3
        await eventually(lambda: log.trimmed == 3)
    assert log.ids() == [g.id for g in asked]


async def test_a_full_queue_drops_and_counts(measured: CollectorRegistry) -> None:
    log = Log()
    log.may_write.clear()
    with recorder(log, measured, wait_s=0.01, queue_generations=2) as made:
        for _ in range(3):
            assert not await made.record(generation())
        assert unrecorded(measured, "queue_full") == 1
        log.may_write.set()
    assert len(log.ids()) == 2


def test_leaving_writes_what_waits_and_ends_though_the_log_is_down(measured: CollectorRegistry) -> None:
    log = Log()
    log.is_down = True
    with recorder(log, measured):
        pass
    assert log.values == []


def test_an_id_counts_once_in_its_app(measured: CollectorRegistry) -> None:
    made = recorder(Log(), measured, remembered_ids=2)
    made.reserve("app", "1")
    made.reserve("other", "1")
    with pytest.raises(GenerationIdReused):
        made.reserve("app", "1")
    made.release("app", "1")
    made.reserve("app", "1")
    made.reserve("app", "2")  # the oldest is forgotten
    made.reserve("other", "1")


def test_records_are_cut_by_size() -> None:
    large = [generation("x" * (MAX_RECORD_BYTES // 3)).to_proto() for _ in range(5)]
    wires = [events_pb2.GenerationBatch(generations=[one]).SerializeToString() for one in large]
    batches = [events_pb2.GenerationBatch.FromString(v) for v in records(wires)]
    assert [len(b.generations) for b in batches] == [2, 2, 1]
    assert [one for b in batches for one in b.generations] == large


async def test_the_failure_of_the_thread_is_told(measured: CollectorRegistry) -> None:
    class Broken(Log):
        def append(self, values: Sequence[bytes]) -> list[Position]:
            raise RuntimeError("a fault in the log")

    made = recorder(Broken(), measured, wait_s=0.01)
    with made:
        assert not await made.record(generation())
    assert isinstance(made.failure.exception(timeout=10), RuntimeError)
