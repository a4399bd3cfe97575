"""Watchers see what happens from when they watch, and a slow one never holds up training."""

import asyncio
from contextlib import aclosing

from attune.trainer.watch import QUEUE_LENGTH, Event, Happening, Watchers


async def test_all_watchers_see_all_and_a_slow_one_keeps_the_newest():
    lost: list[int] = []
    watchers = Watchers(lambda: lost.append(1))
    watchers.tell(Happening(Event.STOPPED, 0))
    async with aclosing(watchers.watch()) as first, aclosing(watchers.watch()) as second:
        waiting = [asyncio.ensure_future(anext(w)) for w in (first, second)]
        await asyncio.sleep(0)
        for step in range(1, QUEUE_LENGTH + 11):
            watchers.tell(Happening(Event.POLICY_PROMOTED, step))
        firsts = [(await w).step for w in waiting]
        assert firsts == [11, 11]
        assert (await anext(first)).step == 12
        assert len(lost) == 20  # ten for each watcher
    assert watchers._queues == set()


def test_wire_form():
    proto = Happening(Event.POLICY_REJECTED, 4, "policies/p/revisions/2", "worse", {"kl": 1.5}, 12.5).to_proto()
    assert (proto.step, proto.event, proto.metrics["kl"], proto.time.seconds) == (4, 4, 1.5, 12)
