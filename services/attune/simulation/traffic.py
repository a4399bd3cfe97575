"""Live traffic: simulated users ask the policy server through the client, and send feedback to ingest.

A visit is one user with one prompt: 2 to 4 completions are asked for, read, and answered with a ranking, a thumb or a
correction, at once, late, twice or never. Visitors come one after another, each after a pause; what is on its way when
a visitor leaves is sent by a task of its own. Everything a report needs is kept in the log of the traffic.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from attune.client import (
    AsyncClient,
    AttuneError,
    Demonstration,
    FeedbackEvent,
    GenerationResult,
    Ranking,
    Rating,
    new_event,
)
from attune.simulation.grammar import sample_prompt
from attune.simulation.users import CorrectionAction, Population, RankingAction, Reaction, Shown, ThumbAction, User

SOURCE = "demo"
COMPLETIONS = (2, 4)


@dataclass(frozen=True)
class Answer:
    """A completion a user saw, when (seconds since the epoch) and by which revision."""

    time: float
    prompt: str
    text: str
    revision: str


@dataclass
class TrafficLog:
    """What happened. `receipts` maps the id of an acknowledged event to its accept time."""

    requests: int = 0
    failed_requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unrecorded: int = 0
    repeats: int = 0
    mistakes: int = 0
    silent: int = 0
    receipts: dict[str, float] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def first_served(self) -> dict[str, float]:
        """When each revision first answered a user."""
        found: dict[str, float] = {}
        for answer in self.answers:
            found[answer.revision] = min(answer.time, found.get(answer.revision, answer.time))
        return found


class Traffic:
    """Users of one population at one client. All randomness follows from the seed and the number of the visit."""

    def __init__(self, client: AsyncClient, population: Population, *, seed: int, max_tokens: int) -> None:
        self.log = TrafficLog()
        self._client = client
        self._population = population
        self._seed = seed
        self._max_tokens = max_tokens
        self._visits = 0
        self._on_their_way: set[asyncio.Task[None]] = set()

    @property
    def visits(self) -> int:
        return self._visits

    async def run(self, visitors: int, pause_s: float, stop: asyncio.Event, visits: int | None = None) -> None:
        """Visits until `stop`, or until there were `visits` more."""
        last = None if visits is None else self._visits + visits

        async def visitor() -> None:
            while not stop.is_set() and (last is None or self._visits < last):
                self._visits += 1
                rng = random.Random(f"{self._seed}/visit/{self._visits}")
                await self._visit(rng)
                if pause_s:
                    await _sleep_unless(stop, rng.uniform(0.5 * pause_s, 1.5 * pause_s))

        async with asyncio.TaskGroup() as group:
            for _ in range(visitors):
                group.create_task(visitor())

    async def drain(self) -> None:
        """Waits until all feedback that is on its way has been sent."""
        while self._on_their_way:
            await asyncio.gather(*self._on_their_way)

    async def _visit(self, rng: random.Random) -> None:
        user = self._population.visitor(rng)
        case = sample_prompt(rng)
        result = await self._ask(user, case.prompt, rng.randint(*COMPLETIONS))
        if result is None:
            return
        shown = [Shown(c.id, c.text) for c in result.generation.completions]
        reaction = self._population.react(user, case.prompt, shown, rng)
        self.log.mistakes += reaction.is_mistake
        if not reaction.times_sent:
            self.log.silent += 1
            return
        task = asyncio.create_task(self._send(reaction))
        self._on_their_way.add(task)
        task.add_done_callback(self._on_their_way.discard)

    async def _ask(self, user: User, prompt: str, completions: int) -> GenerationResult | None:
        self.log.requests += 1
        try:
            result = await self._client.generate(
                prompt, completions=completions, max_tokens=self._max_tokens, subject_id=user.subject_id
            )
        except AttuneError as error:
            self._failed(error)
            return None
        self.log.unrecorded += not result.recorded
        now, revision = time.time(), result.generation.revision
        self.log.answers.extend(Answer(now, prompt, text, revision) for text in result.texts)
        return result

    async def _send(self, reaction: Reaction) -> None:
        await asyncio.sleep(reaction.delay_s)
        event = _event(self._client.app_id, reaction)
        for _ in range(reaction.times_sent):
            self.log.requests += 1
            try:
                receipt = await self._client.submit(event)
            except AttuneError as error:
                self._failed(error)
                return
            self.log.repeats += receipt.is_repeat
            self.log.receipts.setdefault(receipt.event_id, receipt.accept_time)

    def _failed(self, error: AttuneError) -> None:
        self.log.failed_requests += 1
        self.log.failures[error.reason] += 1


def _event(app_id: str, reaction: Reaction) -> FeedbackEvent:
    match reaction.action:
        case RankingAction(groups):
            feedback: Ranking | Rating | Demonstration = Ranking(groups)
        case ThumbAction(completion_id, rating):
            feedback = Rating(completion_id, rating)
        case CorrectionAction(completion_id, text):
            feedback = Demonstration(completion_id, text)
    return new_event(app_id, feedback, subject_id=reaction.subject_id, source=SOURCE, event_id=reaction.event_id)


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
