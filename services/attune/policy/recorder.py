"""Puts generations on the event log before their caller has the last chunk, and knows which ids an app has used.

A writer thread takes all that waits and writes it as one commit, so that the cost of a durable write is shared by what
arrives during one. `record` waits at most `wait_s`; then the generation is served with recorded=False and counted, and
is still written once the log is back, unless the queue is full, in which case it is dropped and counted. Memory of used
ids is bounded: it catches a caller's mistake soon after it is made, and the join catches the others.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from attune.api.events.v1 import events_pb2
from attune.domain.errors import EventLogUnavailable, GenerationIdReused
from attune.domain.generations import Generation
from attune.platform.events.log import Producer
from attune.policy.metrics import PolicyMetrics

MAX_RECORD_BYTES = 512 * 1024
RETRY_S = 0.5

log = logging.getLogger(__name__)


class Recorder:
    """Start it as a context manager; leaving writes what waits, if the log can, and ends the thread.

    `failure` is the thread's end: it resolves with the error that came before its time.
    """

    failure: Future[None]

    def __init__(
        self,
        producer: Producer,
        metrics: PolicyMetrics,
        *,
        wait_s: float = 0.2,
        queue_generations: int = 10_000,
        remembered_ids: int = 100_000,
        trim_interval_s: float = 600.0,
    ) -> None:
        self._producer, self._metrics = producer, metrics
        self._wait_s, self._queue_generations, self._remembered_ids = wait_s, queue_generations, remembered_ids
        self._trim_interval_s, self._next_trim = trim_interval_s, time.monotonic() + trim_interval_s
        self._used: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._queue: deque[tuple[bytes, Future[None]]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generation-writer")

    def __enter__(self) -> Recorder:
        self.failure = self._thread.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.shutdown()

    def reserve(self, app_id: str, generation_id: str) -> None:
        """Takes an id for its app; GenerationIdReused if it is taken. `release` it if nothing comes of it."""
        key = (app_id, generation_id)
        if key in self._used:
            raise GenerationIdReused(
                f"{app_id} has used generation id {generation_id} already", metadata={"generation_id": generation_id}
            )
        self._used[key] = None
        if len(self._used) > self._remembered_ids:
            self._used.popitem(last=False)

    def release(self, app_id: str, generation_id: str) -> None:
        """Gives an id back: its generation failed, and the caller may try again with the same one."""
        self._used.pop((app_id, generation_id), None)

    async def record(self, generation: Generation) -> bool:
        """Whether the event log has the generation; False after `wait_s`, or if it was dropped."""
        written: Future[None] = Future()
        with self._changed:
            if len(self._queue) >= self._queue_generations or self._is_closing:
                self._metrics.unrecorded.labels("queue_full").inc()
                return False
            batch = events_pb2.GenerationBatch(generations=[generation.to_proto()])
            self._queue.append((batch.SerializeToString(), written))
            self._changed.notify()
        done, _ = await asyncio.wait([asyncio.wrap_future(written)], timeout=self._wait_s)
        if not done:
            self._metrics.unrecorded.labels("log_slow").inc()
        return bool(done)

    def _run(self) -> None:
        while self._write_group():
            self._trim_now_and_then()

    def _write_group(self) -> bool:
        """Writes what waits, or waits for it; False when closed and nothing more can be written."""
        with self._changed:
            while not self._queue and not self._is_closing:
                self._changed.wait()
            group = list(self._queue)
            is_closing = self._is_closing
        if not group:
            return False
        try:
            self._producer.append(records([value for value, _ in group]))
        except EventLogUnavailable as error:
            log.error("generations are not recorded: %s", error.message)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, RETRY_S)
            return not is_closing
        with self._changed:
            for _ in group:
                self._queue.popleft()
        for _, written in group:
            written.set_result(None)
        return True

    def _trim_now_and_then(self) -> None:
        if time.monotonic() >= self._next_trim:
            self._next_trim = time.monotonic() + self._trim_interval_s
            try:
                self._producer.trim(time.time())
            except EventLogUnavailable as error:
                log.warning("the event log cannot be trimmed now: %s", error.message)


def records(batches: Iterable[bytes]) -> list[bytes]:
    """Serialised GenerationBatch values, joined to ones of about MAX_RECORD_BYTES at most, in order.

    Serialised messages one behind the other are one message with the repeated fields of all.
    """
    values: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for batch in batches:
        if size and size + len(batch) > MAX_RECORD_BYTES:
            values.append(b"".join(parts))
            parts, size = [], 0
        parts.append(batch)
        size += len(batch)
    return [*values, b"".join(parts)]
