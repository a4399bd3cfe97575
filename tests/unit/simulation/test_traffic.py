"""Traffic: users through the real client to small real servers; what the log counts, and that late feedback arrives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio
from attune.client import NO_RETRY, AsyncClient
from attune.domain.errors import QueueFull
from attune.domain.feedback import Demonstration, Ranking, Rating
from attune.simulation import judge
from attune.simulation.taste import Standardised
from attune.simulation.traffic import Answer, Traffic, TrafficLog
from attune.simulation.users import Customs, Population
from support.eventually import eventually
from unit.client.servers import REVISION, SmallServer, running_server

QUICK = Customs(reading_s=(0.0, 0.0), late_s=(0.01, 0.05), late_rate=0.5, twice_rate=0.3, never_rate=0.1)


@pytest.fixture
def small() -> Iterator[SmallServer]:
    with running_server() as server:
        yield server


@pytest_asyncio.fixture
async def client(small: SmallServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(
        app_id="demo", policy_address=small.address, feedback_address=small.address, retry=NO_RETRY
    ) as made:
        yield made


def traffic(client: AsyncClient, seed: int = 0, **customs) -> Traffic:
    taste = Standardised.over(judge.score, [("hello", text) for text in ("one", "two", "three")])
    population = Population(taste, seed, 30, replace(QUICK, **customs))
    return Traffic(client, population, seed=seed, max_tokens=8)


async def test_everyone_is_asked_answered_and_heard(client: AsyncClient, small: SmallServer) -> None:
    made = traffic(client)
    await made.run(4, 0.0, asyncio.Event(), visits=60)
    await made.drain()
    log = made.log
    asked = small.policy.script.seen
    assert len(asked) >= 60
    assert {request.sampling.completions for request in asked} == {2, 3, 4}
    assert all(request.subject_id.startswith("user-") for request in asked)
    assert log.receipts.keys() == small.feedback.taken.keys()
    assert len(log.receipts) + log.silent == len(asked)
    assert log.repeats > 0
    assert log.failed_requests == 0
    assert {type(event.feedback) for event in small.feedback.taken.values()} == {Ranking, Rating, Demonstration}
    assert len(log.answers) == sum(request.sampling.completions for request in asked)
    assert log.first_served().keys() == {REVISION}


async def test_the_same_seed_gives_the_same_feedback(client: AsyncClient, small: SmallServer) -> None:
    first, again = traffic(client, seed=7), traffic(client, seed=7)
    await first.run(1, 0.0, asyncio.Event(), visits=20)
    await first.drain()
    kinds = [event.feedback.kind for event in small.feedback.taken.values()]
    await again.run(1, 0.0, asyncio.Event(), visits=20)
    await again.drain()
    assert first.log.receipts.keys() == again.log.receipts.keys()
    assert again.log.repeats >= len(kinds)


async def test_failures_are_counted_by_reason(client: AsyncClient, small: SmallServer) -> None:
    small.policy.script.errors += [QueueFull("full")] * 3
    made = traffic(client, never_rate=0.0)
    await made.run(1, 0.0, asyncio.Event(), visits=10)
    await made.drain()
    assert made.log.failed_requests == 3
    assert made.log.failures == {"QUEUE_FULL": 3}
    assert len(made.log.receipts) == 7


async def test_a_stop_ends_the_visits_between_two(client: AsyncClient) -> None:
    made, stop = traffic(client), asyncio.Event()
    running = asyncio.create_task(made.run(2, 60.0, stop))
    await eventually(lambda: made.visits >= 2)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert len(made.log.answers) >= 2
    assert made.log.failed_requests == 0


def test_first_served_is_the_earliest() -> None:
    log = TrafficLog(answers=[Answer(5.0, "p", "t", "a"), Answer(2.0, "p", "t", "a"), Answer(9.0, "p", "t", "b")])
    random.Random(0).shuffle(log.answers)
    assert log.first_served() == {"a": 2.0, "b": 9.0}
