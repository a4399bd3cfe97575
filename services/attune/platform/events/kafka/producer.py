"""The writing end of a topic on Kafka: idempotent, acks=all, and nothing is kept that was not acknowledged.

An append hands its values to the library and waits for all of them. The library sends a value again until it is
stored or the append's time is over, with sequence numbers, so that a lost answer stores nothing twice. After a failed
append the client is dropped with everything it holds, and the next append connects anew: what has not left by then
never does, and a broker that is away costs no memory. What did leave may be stored without our hearing of it; that is
the lost answer of rule 2. Of a failed append, whole records may be stored.

An append's values fill a batch of one partition, then one of another: a cluster's partitions share the load, and a
small append is one request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.partitioner import StickyPartitioner

from attune.domain.errors import ConfigurationInvalid, EventLogUnavailable
from attune.platform.events.kafka.connection import connect, errors_of
from attune.platform.events.log import MAX_VALUE_BYTES, Position, check_lengths
from attune.platform.events.settings import KafkaSettings

BATCH_BYTES = 1_000_000
# How long a batch waits for the append's next value; the last one ends the wait.
LINGER_MS = 5
# Short, so that callers hear soon while the broker is away.
CONNECT_SHARE = 0.25
CLOSE_TIMEOUT_S = 1.0


class _Client(KafkaProducer):
    def abandon(self) -> None:
        """Ends the client without sending what it still holds; `close` would wait for that."""
        self._sender.force_close()
        self._unregister_cleanup()
        self._closed = True


class KafkaTopicProducer:
    """Connects at the first append. See the module."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._is_closed = False

    def append(self, values: Sequence[bytes]) -> list[Position]:
        check_lengths(values)
        with self._lock:
            if self._is_closed:
                raise EventLogUnavailable(f"the producer of {self._topic} is closed")
            if not values:
                return []
            deadline = time.monotonic() + self._settings.append_timeout_s
            try:
                with errors_of(self._topic):
                    self._client = self._client or self._connect()
                    return self._send(self._client, values, deadline)
            except BaseException:
                self._abandon()
                raise

    def _connect(self) -> _Client:
        longest_ms = round(self._settings.append_timeout_s * 1000)
        try:
            return connect(
                _Client,
                self._settings,
                self._settings.append_timeout_s * CONNECT_SHARE,
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                partitioner=StickyPartitioner(),
                batch_size=BATCH_BYTES,
                linger_ms=LINGER_MS,
                max_request_size=MAX_VALUE_BYTES + BATCH_BYTES,
                max_block_ms=longest_ms // 2,
                request_timeout_ms=longest_ms // 2,
                delivery_timeout_ms=longest_ms,
                metrics_enabled=False,
            )
        except ConfigurationInvalid as error:
            raise EventLogUnavailable(error.message) from error

    def _send(self, client: _Client, values: Sequence[bytes], deadline: float) -> list[Position]:
        try:
            futures = [client.send(self._topic, value) for value in values]
        except KafkaTimeoutError:
            raise EventLogUnavailable(f"Kafka does not know {self._topic}: `attune topics create` makes it") from None
        try:
            client.flush(max(0.0, deadline - time.monotonic()))
            stored = [future.get(0.0) for future in futures]
        except KafkaTimeoutError:
            timeout_s = self._settings.append_timeout_s
            raise EventLogUnavailable(f"{self._topic}: Kafka stored nothing in {timeout_s:g} s") from None
        return [Position(record.partition, record.offset) for record in stored]

    def _abandon(self) -> None:
        if self._client is not None:
            self._client.abandon()
            self._client = None

    def trim(self, now_s: float) -> int:
        """The broker keeps retention."""
        return 0

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._client is not None:
                self._client.close(CLOSE_TIMEOUT_S)
                self._client = None
