"""The broker that ingest is measured on, and the raw producer of the same client beside it.

`python tests/benchmarks/kafka_beside.py HOST:PORT SECONDS` measures the producer in a process of its own and prints
events a core-second: kafka-python, idempotent, acks=all, one event a record, nothing around it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from processes import free_port, process

ROOT = Path(__file__).resolve().parents[2]
EVENT_BYTES, AT_ONCE = 512, 1000
TOPIC = "attune.benchmark.raw"


@contextmanager
def broker(bootstrap: str) -> Iterator[str]:
    """The address of a broker with the topics of Attune: the one that is named, else a fresh one on this machine."""
    if bootstrap:
        create_topics(bootstrap)
        yield bootstrap
        return
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="attune-bench-kafka-") as folder:
        command = [sys.executable, str(ROOT / "deploy/kafka/broker.py"), "run", "--folder", folder]
        with process([*command, "--port", address.rpartition(":")[2]], address):
            create_topics(address)
            yield address


def create_topics(bootstrap: str) -> None:
    command = [sys.executable, "-m", "attune.cli.main", "topics", "create", "--kafka", bootstrap]
    subprocess.run(command, check=True, stdout=sys.stderr)


def raw_producer_events_per_core_s(bootstrap: str, seconds: float) -> float:
    """As the module says."""
    command = [sys.executable, __file__, bootstrap, str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(bootstrap: str, seconds: float) -> float:
    from kafka import KafkaAdminClient, KafkaProducer
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(name=TOPIC, num_partitions=1, replication_factor=1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    value = os.urandom(EVENT_BYTES)
    sent, usage, deadline = 0, 0.0, 0.0
    while not deadline or time.monotonic() < deadline:
        for future in [producer.send(TOPIC, value) for _ in range(AT_ONCE)]:
            future.get(30)
        if not deadline:  # the first round connects
            usage, deadline = _cpu_s(), time.monotonic() + seconds
        else:
            sent += AT_ONCE
    spent = _cpu_s() - usage
    producer.close()
    return sent / spent


def _cpu_s() -> float:
    usage = getrusage(RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(_measure(sys.argv[1], float(sys.argv[2])))
