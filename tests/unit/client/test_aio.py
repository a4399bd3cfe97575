"""The asyncio client against small real servers: what is its own, and that it says the same as the blocking one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from attune.client import AsyncClient, Client, Delta, GenerationResult, Receipt, new_event
from attune.domain.errors import EventLogUnavailable, GenerationIdReused, InvalidInput, NoRevision, ServerUnavailable
from attune.domain.feedback import FeedbackEvent, Rating
from unit.client.servers import QUICK, SmallServer

G = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest_asyncio.fixture
async def client(server: SmallServer) -> AsyncIterator[AsyncClient]:
    where = {f"{name}_address": server.address for name in ("policy", "feedback", "reward")}
    async with AsyncClient(app_id="shop", retry=QUICK, **where) as made:
        yield made


def test_both_clients_have_the_same_methods() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        found = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    own = methods(AsyncClient)
    assert own.pop("stream_feedback")
    assert own == methods(Client)


async def test_generate_retries_with_new_ids_and_many_run_at_once(client: AsyncClient, server: SmallServer) -> None:
    server.policy.script.errors = [NoRevision("not yet"), NoRevision("not yet")]
    results = await asyncio.gather(*(client.generate("Hello", completions=2) for _ in range(5)))
    assert all(result.texts == ("one", "two") for result in results)
    ids = [request.generation_id for request in server.policy.script.seen]
    assert len(ids) == len(set(ids)) == 7


async def test_errors_are_domain_errors(client: AsyncClient, server: SmallServer) -> None:
    server.policy.script.errors = [GenerationIdReused("used")]
    with pytest.raises(GenerationIdReused):
        await client.generate("Hello", generation_id=G)


async def test_stream_gives_deltas_and_the_whole(client: AsyncClient, server: SmallServer) -> None:
    server.policy.script.errors = [NoRevision("not yet")]
    items = [item async for item in client.stream("Hello")]
    assert "".join(item.text for item in items if isinstance(item, Delta)) == "one"
    assert isinstance(items[-1], GenerationResult)


async def test_leaving_a_stream_cancels_it(client: AsyncClient, server: SmallServer) -> None:
    server.policy.hang_after_deltas = True
    async with aclosing(client.stream("Hello")) as stream:
        async for _ in stream:
            break
    assert await asyncio.to_thread(server.policy.cancelled.wait, 10)


async def test_cancelling_a_task_cancels_its_call(client: AsyncClient, server: SmallServer) -> None:
    server.policy.hang_after_deltas = True
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(client.stream("Hello")) as stream:
            async for _ in stream:
                begun.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.policy.cancelled.wait, 10)


async def test_feedback_and_scores(client: AsyncClient, server: SmallServer) -> None:
    server.feedback.script.errors = [EventLogUnavailable("after the write")]
    assert (await client.rate(f"{G}/0", 1, subject_id="ana")).is_repeat
    await client.compare(f"{G}/0", f"{G}/1", subject_id="ana")
    await client.rank([f"{G}/0", [f"{G}/1", f"{G}/2"]], subject_id="ana")
    await client.demonstrate(f"{G}/0", "Better.", subject_id="ana")
    assert [e.feedback.kind for e in server.feedback.taken.values()] == [
        "rating",
        "comparison",
        "ranking",
        "demonstration",
    ]
    results = await client.ingest([new_event("shop", Rating(f"{G}/0", v), subject_id="ana") for v in (0.5, 2)])
    assert [type(r) for r in results] == [Receipt, InvalidInput]
    assert (await client.score([("Q", "abc")])).raw == (3,)


async def test_a_stream_of_feedback_is_answered_event_by_event(client: AsyncClient) -> None:
    answered = asyncio.Event()

    async def events() -> AsyncIterator[FeedbackEvent]:
        yield new_event("shop", Rating(f"{G}/0", 1), subject_id="ana")
        await asyncio.wait_for(answered.wait(), 10)
        yield new_event("shop", Rating(f"{G}/0", 2), subject_id="ana")

    results = []
    async for result in client.stream_feedback(events()):
        results.append(type(result))
        answered.set()
    assert results == [Receipt, InvalidInput]


async def test_a_broken_stream_of_feedback_raises(client: AsyncClient, server: SmallServer) -> None:
    server.feedback.script.errors = [EventLogUnavailable("disk full")]

    async def events() -> AsyncIterator[FeedbackEvent]:
        yield new_event("shop", Rating(f"{G}/0", 1), subject_id="ana")

    with pytest.raises(EventLogUnavailable):
        [result async for result in client.stream_feedback(events())]


async def test_waiting_until_serving(client: AsyncClient, server: SmallServer) -> None:
    server.set_serving(False)
    with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
        await client.wait_until_serving(timeout_s=0.05)
    server.set_serving(True)
    await client.wait_until_serving(timeout_s=10)
