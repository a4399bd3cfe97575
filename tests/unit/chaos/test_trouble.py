"""What goes wrong is spread over the traffic, happens to whom it should, and ends; what ends by itself is noted."""

from __future__ import annotations

import asyncio
import random

from chaos.proxy import Cut, Proxy
from chaos.trouble import Misfortune, Trouble, planned, spread, table
from support.eventually import eventually
from support.processes import free_port


class Light:
    """A victim that costs nothing."""

    def __init__(self) -> None:
        self.is_running = True
        self.kills = 0

    def kill(self) -> None:
        self.is_running = False
        self.kills += 1

    def start(self) -> None:
        self.is_running = True


def test_each_stretch_of_the_traffic_has_its_place() -> None:
    places = spread(10, 1000, random.Random(1))
    assert [place // 100 for place in places] == list(range(10))


def test_a_plan_is_in_order_and_gives_victims_and_links_equal_shares() -> None:
    plan = planned(1000, 6, 9, ["broker", "join"], ["a", "b", "c"], random.Random(1))
    assert [one.at for one in plan] == sorted(one.at for one in plan)
    kills = [one.whom for one in plan if one.what == "kill -9"]
    assert sorted(kills) == ["broker"] * 3 + ["join"] * 3
    cuts = {(one.whom, one.what) for one in plan if one.what != "kill -9"}
    assert cuts == {(link, how) for link in "abc" for how in Cut}


async def test_kills_and_cuts_happen_when_the_traffic_is_there_and_are_told() -> None:
    victim, acknowledged = Light(), 0
    async with Proxy(free_port(), free_port()) as proxy:
        trouble = Trouble({"join": victim}, {"network": [proxy]}, lambda: acknowledged, random.Random(1), (0.0, 0.0))
        running = asyncio.create_task(
            trouble.run([Misfortune(10, "join", "kill -9"), Misfortune(20, "network", Cut.SEVER)])
        )
        acknowledged = 10
        await eventually(lambda: victim.kills == 1)
        assert (trouble.kills, trouble.cuts) == (1, 0)
        acknowledged = 20
        await running
    assert victim.is_running
    assert (trouble.kills, trouble.cuts, trouble.own_ends, trouble.away) == (1, 1, 0, [])
    rows = table(trouble.incidents).splitlines()[1:]
    assert [row.split()[1:4] for row in rows] == [["10", "kill", "-9"], ["20", "sever", "network"]]


async def test_what_ends_by_itself_is_started_again_and_is_no_kill() -> None:
    victim = Light()
    trouble = Trouble({"join": victim}, {}, lambda: 0, random.Random(1))
    watching = asyncio.create_task(trouble.watch())
    victim.is_running = False
    await eventually(lambda: victim.is_running)
    watching.cancel()
    assert (trouble.kills, trouble.own_ends) == (0, 1)
