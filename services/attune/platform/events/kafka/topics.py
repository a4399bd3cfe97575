"""The topics of Attune on a cluster: made with the settings that the contract of the log needs, and held against them.

Retention is shorter than RETENTION_S by one segment, because Kafka deletes whole segments: a record is gone when
RETENTION_S is over, as people are told whose data is erased.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from attune.domain.errors import EventLogUnavailable
from attune.platform.events.kafka.connection import connect, errors_of
from attune.platform.events.kafka.producer import BATCH_BYTES
from attune.platform.events.log import MAX_VALUE_BYTES, RETENTION_S, Topic
from attune.platform.events.settings import KafkaSettings

SEGMENT_MS = 6 * 3600 * 1000
USUAL_COPIES = 3


@dataclass(frozen=True)
class Layout:
    """How topics lie on a cluster. `copies` 0: three, or as many as there are brokers; `fsync`: on every write."""

    partitions: int = 3
    copies: int = 0
    fsync: bool = False


@dataclass(frozen=True)
class Difference:
    """A setting of a topic that is not as it should be; `found` is empty if there is no such topic."""

    topic: str
    setting: str
    wanted: str
    found: str


class Topics:
    """The topics of one system on its cluster. A context manager; EventLogUnavailable if the broker does not answer."""

    def __init__(self, settings: KafkaSettings, layout: Layout) -> None:
        self._layout = layout
        self._names = {topic: settings.topic_prefix + topic for topic in Topic}
        self._timeout_ms = round(settings.request_timeout_s * 1000)
        self._admin = connect(
            KafkaAdminClient, settings, settings.request_timeout_s, request_timeout_ms=self._timeout_ms
        )

    def __enter__(self) -> Topics:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    def create(self) -> list[str]:
        """Makes the topics that are absent and returns their names."""
        with errors_of("topics"):
            copies = self._copies()
            plans = {
                name: {
                    "num_partitions": self._layout.partitions,
                    "replication_factor": copies,
                    "configs": self._configuration(topic, copies),
                }
                for topic, name in self._names.items()
            }
            answer = self._admin.create_topics(plans, timeout_ms=self._timeout_ms, raise_errors=False)
            for one in answer["topics"]:
                if one["error_code"] not in (0, TopicAlreadyExistsError.errno):
                    raise EventLogUnavailable(f"{one['name']} cannot be made: {one['error_message']}")
            self._admin.wait_for_topics(list(plans))
        return [one["name"] for one in answer["topics"] if not one["error_code"]]

    def check(self) -> list[Difference]:
        """Everything that is not as `create` would make it; more partitions are no fault."""
        with errors_of("topics"):
            copies = self._copies()
            found = {one["name"]: one for one in self._admin.describe_topics(list(self._names.values()))}
            return [
                difference
                for topic, name in self._names.items()
                for difference in self._differences(topic, name, found[name], copies)
            ]

    def _differences(self, topic: Topic, name: str, found: Mapping[str, Any], copies: int) -> Sequence[Difference]:
        if found["error_code"] == UnknownTopicOrPartitionError.errno:
            return [Difference(name, "topic", "present", "")]
        partitions = found["partitions"]
        fewest = min((len(partition["replica_nodes"]) for partition in partitions), default=0)
        differences = []
        if len(partitions) < self._layout.partitions:
            differences.append(Difference(name, "partitions", str(self._layout.partitions), str(len(partitions))))
        if fewest < copies:
            differences.append(Difference(name, "replication factor", str(copies), str(fewest)))
        configured = self._configured(name)
        for key, wanted in self._configuration(topic, copies).items():
            if configured.get(key, "") != wanted:
                differences.append(Difference(name, key, wanted, configured.get(key, "")))
        return differences

    def _configured(self, name: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        described = self._admin.describe_configs([resource], config_filter="all")["topic"][name]
        return {key: entry["value"] for key, entry in described.items()}

    def _copies(self) -> int:
        return self._layout.copies or min(USUAL_COPIES, len(self._admin.describe_cluster()["brokers"]))

    def _configuration(self, topic: Topic, copies: int) -> dict[str, str]:
        configuration = {
            "cleanup.policy": "delete",
            "retention.ms": str(round(RETENTION_S[topic] * 1000) - SEGMENT_MS),
            "retention.bytes": "-1",
            "segment.ms": str(SEGMENT_MS),
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_VALUE_BYTES + BATCH_BYTES),
            # An append is acknowledged by all copies but one: losing a broker stops no writer and loses nothing.
            "min.insync.replicas": str(max(1, copies - 1)),
            "unclean.leader.election.enable": "false",
        }
        return configuration | ({"flush.messages": "1"} if self._layout.fsync else {})
