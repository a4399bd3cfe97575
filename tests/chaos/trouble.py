"""What goes wrong, and when: kills of processes and cuts of the network, drawn at random over the whole traffic.

The traffic is divided into as many stretches as there are kills, and each stretch has its kill at a random place; cuts
have stretches of their own, so that one may fall upon the other. A place is a number of acknowledged events: while
nothing can be acknowledged, nothing more goes wrong.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Protocol

from chaos.proxy import Cut, Proxy
from support.eventually import eventually

LOOK_S, PATIENCE_S = 0.2, 600.0
LONGEST_AWAY_S = 1.5


class Victim(Protocol):
    """A process that can be killed and started again."""

    @property
    def is_running(self) -> bool: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...


@dataclass
class Incident:
    """One thing that went wrong, at a second of the run and a number of acknowledged events."""

    at_s: float
    acknowledged: int
    whom: str
    what: str
    lasted_s: float = 0.0


@dataclass(frozen=True)
class Misfortune:
    """Something planned: at how many acknowledged events, to whom, and what ("kill -9" or a cut)."""

    at: int
    whom: str
    what: str


def spread(count: int, total: int, dice: random.Random) -> list[int]:
    """A random place in each of `count` equal stretches of `total`."""
    return [int(total * (stretch + dice.random()) / count) for stretch in range(count)]


def planned(
    total: int, kills: int, cuts: int, victims: Sequence[str], links: Sequence[str], dice: random.Random
) -> list[Misfortune]:
    """What will go wrong, in order. Victims and links have equal shares, in random order."""
    killed = dice.sample(list(islice(cycle(victims), kills)), kills)
    ways = [(link, how) for how in Cut for link in links]
    cut = islice(cycle(dice.sample(ways, len(ways))), cuts)
    plan = [Misfortune(at, whom, "kill -9") for at, whom in zip(spread(kills, total, dice), killed, strict=True)]
    plan += [Misfortune(at, link, how) for at, (link, how) in zip(spread(cuts, total, dice), cut, strict=True)]
    return sorted(plan, key=lambda one: one.at)


class Trouble:
    """Carries out a plan. `acknowledged` tells how far the traffic is; a cut lasts within `cut_s`, seconds."""

    def __init__(
        self,
        victims: Mapping[str, Victim],
        links: Mapping[str, Sequence[Proxy]],
        acknowledged: Callable[[], int],
        dice: random.Random,
        cut_s: tuple[float, float] = (0.3, 8.0),
    ) -> None:
        self._cut_s = cut_s
        self._victims, self._links, self._acknowledged, self._dice = victims, links, acknowledged, dice
        self._turns = {name: asyncio.Lock() for name in (*victims, *links)}
        self._started = time.monotonic()
        self.incidents: list[Incident] = []

    @property
    def kills(self) -> int:
        return sum(incident.what == "kill -9" for incident in self.incidents)

    @property
    def cuts(self) -> int:
        return sum(incident.whom in self._links for incident in self.incidents)

    @property
    def own_ends(self) -> int:
        """How often a process ended that nobody had killed."""
        return len(self.incidents) - self.kills - self.cuts

    @property
    def away(self) -> list[str]:
        """Whatever is dead or cut at the moment."""
        return [name for name, turn in self._turns.items() if turn.locked()]

    async def run(self, plan: Sequence[Misfortune]) -> None:
        """Returns when everything has happened and is over."""
        async with asyncio.TaskGroup() as tasks:
            for misfortune in plan:
                await eventually(lambda at=misfortune.at: self._acknowledged() >= at, PATIENCE_S)
                does = self._kill if misfortune.whom in self._victims else partial(self._cut, Cut(misfortune.what))
                tasks.create_task(does(misfortune.whom))

    async def watch(self) -> None:
        """Starts again, and notes, what ends by itself; until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for name, victim in self._victims.items():
                if not victim.is_running and not self._turns[name].locked():
                    async with self._turns[name]:
                        await self._start_ended(name, victim)

    async def _start_ended(self, name: str, victim: Victim) -> None:
        if not victim.is_running:
            incident = self._begun(name, "ended by itself")
            await asyncio.to_thread(victim.start)
            self._ended(incident)

    async def _kill(self, name: str) -> None:
        victim = self._victims[name]
        async with self._turns[name]:
            await self._start_ended(name, victim)
            incident = self._begun(name, "kill -9")
            victim.kill()
            await asyncio.sleep(self._dice.random() * LONGEST_AWAY_S)
            await asyncio.to_thread(victim.start)
            self._ended(incident)

    async def _cut(self, how: Cut, name: str) -> None:
        async with self._turns[name]:
            incident = self._begun(name, how)
            for proxy in self._links[name]:
                await proxy.cut(how)
            await asyncio.sleep(self._dice.uniform(*self._cut_s))
            for proxy in self._links[name]:
                await proxy.heal()
            self._ended(incident)

    def _begun(self, whom: str, what: str) -> Incident:
        incident = Incident(time.monotonic() - self._started, self._acknowledged(), whom, what)
        self.incidents.append(incident)
        return incident

    def _ended(self, incident: Incident) -> None:
        incident.lasted_s = time.monotonic() - self._started - incident.at_s


def table(incidents: Sequence[Incident]) -> str:
    """Everything that went wrong, in order."""
    rows = [f"{'second':>8}{'acknowledged':>14}  {'what':17}{'whom':20}{'away, s':>8}"]
    rows += [
        f"{one.at_s:8.1f}{one.acknowledged:14,}  {one.what:17}{one.whom:20}{one.lasted_s:8.1f}" for one in incidents
    ]
    return "\n".join(rows)
