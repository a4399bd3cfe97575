"""The system that is broken: broker, ingest and join as real processes, and the network between them as proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from attune.client.control import AsyncFeedbackControlClient
from attune.platform.events.kafka.log import KafkaEventLog
from attune.platform.events.kafka.topics import Layout, Topics
from attune.platform.events.settings import KafkaSettings
from broker import Broker, free_ports
from chaos.proxy import Proxy
from support.processes import Process, running

START_S = 120.0


@dataclass(frozen=True)
class Database:
    """Where the join keeps what it concludes: its environment, and how the accounts open the same."""

    environment: Mapping[str, str]
    url: str
    password: str = ""


@dataclass(frozen=True)
class System:
    """Everything runs. Apps and the accounts use `log`, which has a door of the broker without a proxy."""

    broker: Broker
    ingest: Process
    join: Process
    links: Mapping[str, tuple[Proxy, ...]]
    grpc_address: str
    http_address: str
    log: KafkaEventLog

    @property
    def victims(self) -> dict[str, Broker | Process]:
        return {"broker": self.broker, "ingest": self.ingest, "join": self.join}


@asynccontextmanager
async def started(folder: Path, database: Database) -> AsyncIterator[System]:
    """The system, ended at the end with whatever still runs."""
    ingest_port, join_port, grpc_port, http_port, http_target = free_ports(5)
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Broker(folder / "kafka", proxies=[ingest_port, join_port]))
        settings = KafkaSettings(bootstrap=broker.address)
        with Topics(settings, Layout()) as topics:
            topics.create()
        to_broker = [
            await stack.enter_async_context(Proxy(port, door))
            for port, door in zip((ingest_port, join_port), broker.doors, strict=True)
        ]
        ingest = Process(
            folder, "ingest", "app.port", [f"kafka.bootstrap={to_broker[0].address}", f"http.port={http_target}"]
        )
        join = Process(
            folder, "join", "control.port", [f"kafka.bootstrap={to_broker[1].address}"], dict(database.environment)
        )
        to_ingest = [
            await stack.enter_async_context(Proxy(port, target))
            for port, target in ((grpc_port, ingest.port), (http_port, http_target))
        ]
        stack.enter_context(running(ingest))
        stack.enter_context(running(join))
        async with AsyncFeedbackControlClient(join.address) as client:
            await client.wait_until_serving(START_S)
        yield System(
            broker=broker,
            ingest=ingest,
            join=join,
            links={
                "clients-ingest": tuple(to_ingest),
                "ingest-broker": (to_broker[0],),
                "join-broker": (to_broker[1],),
            },
            grpc_address=to_ingest[0].address,
            http_address=to_ingest[1].address,
            log=KafkaEventLog(settings),
        )
