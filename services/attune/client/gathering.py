"""Gathers what a live source has at hand, so that much costs few messages and little waits for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

T = TypeVar("T")


async def gathered(source: AsyncIterable[T], at_most: int) -> AsyncGenerator[list[T], None]:
    """The items of a source in order, in lists of 1 to `at_most`: all that came while the last list was used.

    The source is read little further ahead than `at_most`. Its error rises once what came before it is given.
    """
    queue: asyncio.Queue[T] = asyncio.Queue(at_most)
    reader = asyncio.create_task(_read(source, queue))
    try:
        while first := await _first(queue, reader):
            yield first + [queue.get_nowait() for _ in range(min(queue.qsize(), at_most - 1))]
        reader.result()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _read(source: AsyncIterable[T], queue: asyncio.Queue[T]) -> None:
    async for item in source:
        await queue.put(item)


async def _first(queue: asyncio.Queue[T], reader: asyncio.Task[None]) -> list[T]:
    """The next item alone; empty at the end of the source."""
    await asyncio.sleep(0)  # the reader's turn to fill what the last list left
    if queue.empty() and not reader.done():
        item = asyncio.ensure_future(queue.get())
        await asyncio.wait([item, reader], return_when=asyncio.FIRST_COMPLETED)
        if item.done():
            return [item.result()]
        item.cancel()
    return [] if queue.empty() else [queue.get_nowait()]
