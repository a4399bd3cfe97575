"""Feedback through kills and cuts: real ingest, join and Kafka broker, while clients send at every door.

Processes are killed with -9 and the network between them fails, at random places spread over the whole traffic. At the
end the join reads what is left, and the accounts are made: what was acknowledged against the topic, the join's tables,
and the examples that a trainer read meanwhile. Exit status 1 if an event was lost or counted twice, if an answer was
wrong, if a stop was not clean, or if there were fewer kills than asked for. The last line is JSON.

`python -m chaos.feedback` with tests and deploy/kafka on the path; `make chaos-kafka` does it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from attune.client import AsyncClient, RetryPolicy
from attune.client.control import AsyncFeedbackControlClient
from attune.domain.feedback import FeedbackState
from attune.feedback.join.database import open_existing
from attune.platform.events.log import Topic
from chaos import accounts, evidence
from chaos.accounts import Evidence
from chaos.doors import Direct, Door, Http, HttpBatch, Ingest, Stream, Submit
from chaos.ledger import Ledger
from chaos.senders import Client, Talk
from chaos.system import Database, System, started
from chaos.traffic import APP, Traffic
from chaos.trouble import Trouble, planned, table
from sqlalchemy import Engine, make_url
from support import postgres

PROGRESS_S, LOOK_S = 10.0, 0.25
READ_S = 600.0
SIDE_BY_SIDE, THREADS = 4, 32
QUICK = RetryPolicy(attempts=2, first_s=0.02)
SHARES: tuple[tuple[type[Door], float], ...] = (
    (Submit, 0.06),
    (Submit, 0.06),
    (Ingest, 0.25),
    (Stream, 0.125),
    (Stream, 0.125),
    (Http, 0.07),
    (HttpBatch, 0.15),
    (Direct, 0.08),
    (Direct, 0.08),
)
"""The clients: the door of each, and its share of the traffic."""


@dataclass(frozen=True)
class Options:
    """How much traffic, how much trouble, and in how many minutes if nothing went wrong."""

    events: int = 200_000
    kills: int = 30
    cuts: int = 18
    minutes: float = 5.0
    seed: int = 0


class Run:
    """One run on a system that is up."""

    def __init__(self, options: Options, system: System, engine: Engine) -> None:
        self._options, self._system, self._engine = options, system, engine
        self._dice = random.Random(options.seed)
        self._traffic = Traffic(random.Random(options.seed + 1))
        self._started = time.monotonic()
        self.ledger = Ledger(self._traffic.again, lambda event: self.talk.hand_out(event))
        self.trouble = Trouble(
            system.victims, system.links, lambda: self.ledger.acknowledged_ids, random.Random(options.seed + 2)
        )

    async def happen(self) -> Evidence:
        """The traffic with its trouble, then the reading of what is left; then the evidence."""
        async with AsyncExitStack() as stack:
            clients = await self._clients(stack)
            generations = stack.enter_context(_closing(self._system.log.producer(Topic.GENERATIONS)))
            self.talk = Talk(self._traffic, generations, clients, self._dice, self._options.events)
            trainer = await self._trainer(stack)
            await stack.enter_async_context(_beside(self.trouble.watch()))
            await stack.enter_async_context(_beside(self._tell()))
            senders = [client.run() for client in clients for _ in range(SIDE_BY_SIDE)]
            await stack.enter_async_context(_beside(trainer.run(), *senders))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.talk.run(self._options.minutes * 60))
                tasks.create_task(self.trouble.run(self._plan()))
            await self._until_read(trainer, stack)
        return await asyncio.to_thread(self._evidence, trainer)

    def _plan(self) -> list[Any]:
        options = self._options
        victims, links = list(self._system.victims), list(self._system.links)
        return planned(options.events, options.kills, options.cuts, victims, links, self._dice)

    async def _clients(self, stack: AsyncExitStack) -> list[Client]:
        """Those of gRPC have a channel each, and apps at the topic a producer each."""
        session = await stack.enter_async_context(aiohttp.ClientSession())
        clients = []
        for kind, share in SHARES:
            if kind in (Http, HttpBatch):
                door: Door = kind(session, self._system.http_address)
            elif kind is Direct:
                door = Direct(stack.enter_context(_closing(self._system.log.producer(Topic.FEEDBACK))))
            else:
                client = AsyncClient(app_id=APP, feedback_address=self._system.grpc_address, retry=QUICK)
                door = kind(await stack.enter_async_context(client))
            clients.append(Client(door, share, self.ledger, self._dice))
        return clients

    async def _trainer(self, stack: AsyncExitStack) -> evidence.Trainer:
        return evidence.Trainer(await stack.enter_async_context(AsyncFeedbackControlClient(self._system.join.address)))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            print(self._progress(), flush=True)

    def _progress(self) -> str:
        ledger, trouble = self.ledger, self.trouble
        return (
            f"{time.monotonic() - self._started:6.0f} s  {ledger.acknowledged_ids:9,} of {self._options.events:,} taken"
            f"  {ledger.sent_again:7,} sent again  {trouble.kills:3} kills  {trouble.cuts:3} cuts"
            f"  away: {', '.join(trouble.away) or 'nothing'}"
        )

    async def _until_read(self, trainer: evidence.Trainer, stack: AsyncExitStack) -> None:
        """Returns when the join has committed the whole log, and the trainer has read all of its examples."""
        consumers = {
            topic: stack.enter_context(_closing(self._system.log.consumer(topic)))
            for topic in (Topic.GENERATIONS, Topic.FEEDBACK)
        }
        deadline = time.monotonic() + READ_S
        while await asyncio.to_thread(evidence.unread, self._engine, consumers) or not self._has_all(trainer):
            if time.monotonic() > deadline:
                print(f"the join has not read the log in {READ_S:g} s")
                return
            await asyncio.sleep(LOOK_S)

    def _has_all(self, trainer: evidence.Trainer) -> bool:
        example, removal = evidence.last_numbers(self._engine)
        return trainer.last_example >= example and trainer.last_removal >= removal

    def _evidence(self, trainer: evidence.Trainer) -> Evidence:
        return Evidence(
            acknowledged=self.ledger.acknowledged,
            on_topic=evidence.on_topic(self._system.log),
            events=evidence.event_rows(self._engine),
            conflicts=evidence.conflicts(self._engine),
            examples=evidence.examples(self._engine),
            read=trainer.read,
            taken_back=trainer.taken_back,
            unanswerable=self.talk.never,
        )


@contextmanager
def _closing(one: Any) -> Iterator[Any]:
    try:
        yield one
    finally:
        one.close()


@asynccontextmanager
async def _beside(*work: Any) -> AsyncIterator[None]:
    """Work that never ends by itself, until the block does; its failure ends the block."""
    async with asyncio.TaskGroup() as tasks:
        begun = [tasks.create_task(one) for one in work]
        yield
        for task in begun:
            task.cancel()


async def chaos(options: Options, folder: Path, database: Database) -> dict[str, Any]:
    """One run; prints its tables, and returns its figures."""
    began = time.monotonic()
    # Apps at the topic wait for a broker that is away, each on a thread; whoever starts it must not wait for one.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    async with started(folder, database) as system:
        engine = open_existing(database.url, database.password)
        run = Run(options, system, engine)
        found = await run.happen()
        engine.dispose()
        stops = [await asyncio.to_thread(process.stop) for process in (system.ingest, system.join)]
    print(table(run.trouble.incidents))
    _print_answers(run.ledger)
    lost, twice = accounts.lost(found), accounts.counted_twice(found)
    for what, ids in (*lost.items(), *twice.items()):
        if ids:
            print(f"{what}: {len(ids):,}, such as {', '.join(sorted(one.hex() for one in ids)[:3])}")
    return {
        "name": "chaos-kafka",
        "acknowledged": run.ledger.acknowledged_ids,
        "lost": accounts.number(lost),
        "counted_twice": accounts.number(twice),
        "kills": run.trouble.kills,
        "cuts": run.trouble.cuts,
        "ended_by_themselves": run.trouble.own_ends,
        "wrong_answers": len(run.ledger.wrong),
        "unclean_stops": sum(status != 0 for status in stops),
        "sent_again": run.ledger.sent_again,
        **_of(found),
        "database": make_url(database.url).get_backend_name(),
        "seed": options.seed,
        "wall_s": round(time.monotonic() - began, 1),
    }


def _of(found: Evidence) -> dict[str, int]:
    states = [row.state for row in found.events]
    return {
        "events_on_topic": len(found.on_topic),
        "distinct_on_topic": len({said.event_id for said in found.on_topic}),
        "rows_of_join": len(found.events),
        "conflicts": len(found.conflicts),
        "examples": len(found.examples),
        **{state.name.lower(): states.count(state) for state in (FeedbackState.PENDING, FeedbackState.SUPERSEDED)},
    }


def _print_answers(ledger: Ledger) -> None:
    print(f"{'door':26}{'answer':26}{'events':>9}")
    for (door, outcome), count in sorted(ledger.answers.items()):
        print(f"{door:26}{outcome:26}{count:9,}")
    for line in ledger.wrong[:20]:
        print(line)


def faults(figures: dict[str, Any], options: Options) -> list[str]:
    """Why a run has failed; empty when all is well."""
    found = [name for name in ("lost", "counted_twice", "wrong_answers", "unclean_stops") if figures[name]]
    found += ["kills"] if figures["kills"] < options.kills else []
    return found + (["acknowledged"] if figures["acknowledged"] < options.events else [])


@contextmanager
def new_database(folder: Path, *, on_postgres: bool) -> Iterator[Database]:
    """A database for the join: a file of SQLite, or a PostgreSQL as durable as it that runs for this alone."""
    if not on_postgres:
        yield Database({}, f"sqlite:///{folder}/attune-data/join.db")
        return
    with postgres.running(is_durable=True) as server:
        url = server.url("chaos", with_password=False)
        named = {"ATTUNE_JOIN_DATABASE": url, "ATTUNE_JOIN_DATABASE_PASSWORD": server.password}
        yield Database(named, url, server.password)


def main(arguments: Sequence[str] | None = None) -> None:
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=usual.events, help="distinct events to send (%(default)s)")
    parser.add_argument("--kills", type=int, default=usual.kills, help="kill -9 in all (%(default)s)")
    parser.add_argument("--cuts", type=int, default=usual.cuts, help="cuts of the network (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, help="of traffic if nothing went wrong (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=usual.seed, help="of what goes wrong when (%(default)s)")
    parser.add_argument("--postgres", action="store_true", help="the join keeps its tables in PostgreSQL, not SQLite")
    named = parser.parse_args(arguments)
    options = Options(named.events, named.kills, named.cuts, named.minutes, named.seed)
    with tempfile.TemporaryDirectory(prefix="attune-chaos-") as temporary:
        folder = Path(temporary)
        with new_database(folder, on_postgres=named.postgres) as database:
            figures = asyncio.run(chaos(options, folder, database))
    if failed := faults(figures, options):
        print(f"FAILED: {', '.join(failed)}")
    print(json.dumps(figures))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
