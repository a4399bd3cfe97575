"""The time left of a request, as those who work for it are told."""

from __future__ import annotations

import asyncio
import math

from attune.platform.deadline import remaining_s, set_deadline


def test_without_a_request_there_is_all_the_time_that_is_asked_for() -> None:
    assert (remaining_s(7.0), remaining_s(math.inf)) == (7.0, math.inf)


async def test_each_request_has_its_own_and_takes_it_into_its_tasks() -> None:
    async def left(at_most: float) -> float:
        return remaining_s(at_most)

    async def serve(seconds: float) -> float:
        set_deadline(seconds)
        assert await asyncio.create_task(left(0.0)) == 0.0
        return await asyncio.create_task(left(3000.0))

    over, short, long, longest = await asyncio.gather(serve(-1.0), serve(500.0), serve(2000.0), serve(9000.0))
    assert (over, longest) == (0.0, 3000.0)
    assert 0.0 < short <= 500.0 < long <= 2000.0
    assert remaining_s(7.0) == 7.0
