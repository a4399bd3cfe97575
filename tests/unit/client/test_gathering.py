"""Lists of what is at hand: nothing lost, nothing moved, nothing waits, and the source is not read far ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from attune.client.gathering import gathered
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 7))
def test_every_item_comes_once_and_in_order(pauses: list[int], at_most: int) -> None:
    async def source() -> AsyncIterator[int]:
        for number, turns in enumerate(pauses):
            for _ in range(turns):
                await asyncio.sleep(0)
            yield number

    async def all_of() -> list[list[int]]:
        return [at_hand async for at_hand in gathered(source(), at_most)]

    lists = asyncio.run(all_of())
    assert [number for at_hand in lists for number in at_hand] == list(range(len(pauses)))
    assert all(1 <= len(at_hand) <= at_most for at_hand in lists)


async def test_much_at_hand_comes_in_full_lists_and_is_not_read_far_ahead() -> None:
    read = 0

    async def source() -> AsyncIterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async with aclosing(gathered(source(), 10)) as lists:
        assert len(await anext(lists)) == 10
        assert read <= 10 + 2
        assert len(await anext(lists)) == 10


async def test_one_item_does_not_wait_for_the_next() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await more.wait()
        yield "second"

    async with aclosing(gathered(source(), 10)) as lists:
        assert await asyncio.wait_for(anext(lists), 5) == ["first"]
        more.set()
        assert await asyncio.wait_for(anext(lists), 5) == ["second"]


async def test_the_error_of_a_source_comes_after_its_items() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    lists = gathered(source(), 10)
    assert await anext(lists) == [1]
    with pytest.raises(ValueError, match="broken"):
        await anext(lists)


async def test_leaving_ends_the_reading_of_the_source() -> None:
    ended = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with aclosing(gathered(source(), 10)) as lists:
        await anext(lists)
    await asyncio.wait_for(ended.wait(), 5)
