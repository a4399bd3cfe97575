"""The demo's story, in order: a policy from nothing, into production, ranked by users, improved while they use it.

1 texts, base model and SFT policy; 2 the services, with that policy live; 3 users rank its answers; 4 the first reward
models; 5 live traffic while the trainer learns; 6 the report. Services are started by whoever gives `Services`, and are
spoken to as any client would.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attune.api.trainer.v1 import trainer_pb2
from attune.client import AsyncClient, AttuneError
from attune.client.control import AsyncFeedbackControlClient, AsyncPolicyControlClient, AsyncRewardControlClient
from attune.client.control import AsyncTrainerClient as TrainerClient
from attune.domain.errors import ServerUnavailable
from attune.domain.examples import Example
from attune.domain.revisions import STABLE
from attune.domain.times import from_timestamp
from attune.modeling.loading import load_policy
from attune.platform.config import load_settings
from attune.platform.registry.registry import Registry
from attune.simulation import grammar, measure, preparation
from attune.simulation.preparation import POLICY, REWARD
from attune.simulation.recipe import MAX_TOKENS, Recipe
from attune.simulation.report import Report, Row, StepRecord, served_scores
from attune.simulation.taste import Judge, Standardised
from attune.simulation.traffic import Traffic
from attune.simulation.users import Population
from attune.trainer.config import TrainerSettings
from attune.trainer.watch import Event

APP_ID = "demo"
SERVICES = ("policy", "ingest", "join", "reward", "trainer")
BEFORE_REWARD = ("policy", "ingest", "join")
"""Those that serve without a reward model; the others wait for one."""
HELD_OUT_PROMPTS, PAIR_PROMPTS, PAIR_COMPLETIONS = 360, 120, 4
REPORT_SEED = 10_000
FIRST_VISITORS = 96
START_TIMEOUT_S, SETTLE_TIMEOUT_S, CATCH_UP_TIMEOUT_S = 120.0, 60.0, 60.0
LAST_VISITS_S = 3.0
LINE_EVERY_S = 10.0


class Services(Protocol):
    """The processes of one system, by their service names."""

    restarts: dict[str, int]

    def start(self, services: Sequence[str]) -> None:
        """Starts services that do not run yet."""

    async def wait_until_serving(self, services: Sequence[str], timeout_s: float) -> None:
        """Returns when all serve."""

    def address(self, service: str, use: str) -> str:
        """host:port of the "app" or "control" port."""


@dataclass(frozen=True)
class Stage:
    """Where a story keeps things and whom it tells: `say` takes a line, `progress` a stage's name."""

    folder: Path
    registry: Registry
    services: Services
    say: Callable[[str], None]
    progress: preparation.Progress


class Story:
    """One run. `judge` is the users' taste; `minutes` of live traffic."""

    def __init__(self, stage: Stage, recipe: Recipe, judge: Judge, minutes: float) -> None:
        self._stage = stage
        self._recipe = recipe
        self._judge = judge
        self._minutes = minutes
        self._steps: list[StepRecord] = []
        self._began = time.time()
        self._started = time.monotonic()
        self.say = stage.say

    async def run(self, reuse: Path | None = None) -> Report:
        """The whole story; `reuse` is the models folder of an earlier run, whose SFT policy is taken."""
        models, services = self._stage.folder / "models", self._stage.services
        if reuse:
            for part in ("texts", "base", "sft"):
                shutil.copytree(reuse / part, models / part)
        policy = await asyncio.to_thread(preparation.make_policy, models, self._recipe, self._stage.progress)
        number = preparation.publish_policy(self._stage.registry, policy)
        self.say(f"The SFT policy is {POLICY.revision(number)}; starting the services.")
        services.start(SERVICES)
        await services.wait_until_serving(BEFORE_REWARD, START_TIMEOUT_S)
        async with AsyncClient(
            app_id=APP_ID,
            policy_address=services.address("policy", "app"),
            feedback_address=services.address("ingest", "app"),
        ) as client:
            return await self._in_production(client, policy, str(number))

    async def _in_production(self, client: AsyncClient, policy: Path, entering: str) -> Report:
        recipe = self._recipe
        cases = grammar.held_out_prompts(random.Random(f"{recipe.seed}/report"), HELD_OUT_PROMPTS)
        before = await self._sample(client, cases, entering)
        pairs = await self._sample(client, cases[:PAIR_PROMPTS], entering, PAIR_COMPLETIONS)
        entering_answers = [(one.case.prompt, text) for one in (*before, *pairs) for text in one.texts]
        taste = Standardised.over(self._judge, entering_answers)
        population = Population(taste, recipe.seed, recipe.population, recipe.customs)
        traffic = Traffic(client, population, seed=recipe.seed, max_tokens=MAX_TOKENS)
        await self._first_rankings(traffic, policy)
        self._began = time.time()
        await self._live(traffic)
        return await self._report(client, policy, taste, traffic, before, pairs, entering)

    async def _first_rankings(self, traffic: Traffic, policy: Path) -> None:
        recipe = self._recipe
        self.say(f"{recipe.population} users try it and say what they prefer.")
        await traffic.run(FIRST_VISITORS, 0.0, asyncio.Event(), visits=recipe.first_visits)
        await traffic.drain()
        examples = await self._examples()
        self.say(f"{len(traffic.log.receipts)} feedback events became {len(examples)} training examples.")
        anchors = preparation.anchors_of([(a.prompt, a.text) for a in traffic.log.answers], recipe.seed)
        split = load_settings(TrainerSettings, recipe.trainer()).split()
        verdict = await asyncio.to_thread(
            preparation.train_first_rewards,
            self._stage.folder / "models",
            policy,
            self._stage.registry,
            examples,
            anchors,
            split,
            recipe,
            self._stage.progress,
        )
        found = f"The first reward model agrees with {verdict.figures.get('reward_accuracy', 0.0):.0%} of what held-out"
        end = "." if verdict.passed else ": no better than chance, so it is not used yet."
        self.say(f"{found} people preferred{end}")

    async def _live(self, traffic: Traffic) -> None:
        """Traffic until the time is over; then the trainer is paused and the last policy still answers some users."""
        recipe, stop = self._recipe, asyncio.Event()
        self.say(f"Live: users keep asking and ranking, the trainer keeps learning, for {self._minutes:g} minutes.")
        end = time.monotonic() + 60 * self._minutes
        address = self._stage.services.address("trainer", "control")
        async with asyncio.TaskGroup() as group, TrainerClient(address) as trainer:
            group.create_task(traffic.run(recipe.visitors, recipe.pause_s, stop))
            watching = group.create_task(self._watch(trainer))
            try:
                while (left := end - time.monotonic()) > 0:
                    await asyncio.sleep(min(LINE_EVERY_S, left))
                    self.say(self._line(traffic))
                await _settle(trainer)
                await asyncio.sleep(LAST_VISITS_S)  # so that the last promotion reaches users, and its freshness counts
            finally:
                stop.set()
                watching.cancel()
        await traffic.drain()

    async def _watch(self, trainer: TrainerClient) -> None:
        """Notes what the trainer tells; looks again when it is away."""
        while True:
            try:
                async with aclosing(trainer.watch()) as happenings:
                    async for h in happenings:
                        event = Event(h.event).name.lower()
                        since = from_timestamp(h.time) - self._began
                        self._steps.append(StepRecord(since, event, h.revision, h.reason, dict(h.metrics)))
                        if h.event == Event.STOPPED:
                            self.say(f"The trainer stopped itself: {h.reason}")
            except AttuneError:
                await asyncio.sleep(0.5)

    def _line(self, traffic: Traffic) -> str:
        """One line about the loop as it is now."""
        promoted = sum(s.event == "policy_promoted" for s in self._steps)
        rejected = sum(s.event == "policy_rejected" for s in self._steps)
        rewards = sum(s.event == "reward_promoted" for s in self._steps)
        recent = [self._judge(a.prompt, a.text) for a in traffic.log.answers[-150:]]
        kl = next((s.metrics["kl"] for s in reversed(self._steps) if "kl" in s.metrics), 0.0)
        score = statistics.fmean(recent) if recent else 0.0
        return (
            f"{len(traffic.log.receipts)} feedback events, {rewards} reward updates, {promoted} policies promoted"
            f" ({rejected} rejected), KL {kl:.2f}, mean true score served {score:+.2f}"
        )

    async def _report(
        self,
        client: AsyncClient,
        policy: Path,
        taste: Standardised,
        traffic: Traffic,
        before: Sequence[measure.Sampled],
        pairs: Sequence[measure.Sampled],
        entering: str,
    ) -> Report:
        self.say("Measuring on held-out prompts, by the true judge.")
        registry, ended = self._stage.registry, time.time()
        head = registry.alias(POLICY, STABLE)
        final = str(head.number) if head else entering
        await self._until_live(str(POLICY.revision(int(final))))
        after = await self._sample(client, [one.case for one in before], final)
        promoted = {record.number for record in registry.history(POLICY, STABLE)} - {0, int(entering)}
        fresh = measure.freshness(
            registry,
            POLICY,
            REWARD,
            await self._examples(),
            traffic.log.first_served(),
            self._began,
            ended,
        )
        kinds = {kind: measure.win_rate(self._judge, before, after, kind) for kind in grammar.KINDS}
        log = traffic.log
        summary: dict[str, Any] = {
            "win_rate": measure.win_rate(self._judge, before, after),
            "reward_accuracy": await self._reward_accuracy(taste, pairs),
            "kl": measure.kl_to_reference(load_policy(policy), after),
            "distinct": measure.distinct(after),
            "policy_revisions": len(promoted),
            "feedback_events": len(log.receipts),
            "freshness_p50_s": fresh.p50_s,
            "failed_requests": log.failed_requests,
            "wall_s": time.monotonic() - self._started,
            "win_rate_worst_kind": min(kinds.values()),
            "win_rates": kinds,
            "score_before": measure.mean_score(self._judge, before),
            "score_after": measure.mean_score(self._judge, after),
            "reward_revisions": sum(s.event == "reward_promoted" for s in self._steps),
            "rejected_revisions": sum(s.event.endswith("rejected") for s in self._steps),
            "freshness_p95_s": fresh.p95_s,
            "freshness_events": {"served": fresh.served, "unserved": fresh.unserved, "excluded": fresh.excluded},
            "repeated_events": log.repeats,
            "unrecorded_generations": log.unrecorded,
            "restarts": sum(self._stage.services.restarts.values()),
            "seed": self._recipe.seed,
        }
        return Report(
            title=f"Attune demo, seed {self._recipe.seed}",
            summary=_rounded(summary),
            rows=self._rows(before, after),
            steps=self._steps,
            served=served_scores(self._judge, log.answers, self._began),
        )

    async def _until_live(self, name: str) -> None:
        """Waits until the policy server answers with a revision that stable names."""
        async with AsyncPolicyControlClient(self._stage.services.address("policy", "control")) as control:
            await control.load_revision(name)

            async def is_live() -> bool:
                return (await control.status()).live_revision == name

            await _until(is_live, CATCH_UP_TIMEOUT_S)

    def _rows(self, before: Sequence[measure.Sampled], after: Sequence[measure.Sampled]) -> list[Row]:
        shown = {case.prompt for case in grammar.showcase()}
        return [
            Row(
                old.case.kind,
                old.case.prompt,
                old.texts[0],
                new.texts[0],
                self._judge(old.case.prompt, old.texts[0]),
                self._judge(old.case.prompt, new.texts[0]),
            )
            for old, new in zip(before, after, strict=True)
            if old.case.prompt in shown
        ]

    async def _reward_accuracy(self, taste: Standardised, pairs: Sequence[measure.Sampled]) -> float:
        """Of the live reward revision, or of the newest if none is live."""
        address = self._stage.services.address("reward", "app")
        number = self._stage.registry.resolve(REWARD, "latest").number
        head = self._stage.registry.alias(REWARD, STABLE)
        name = str(REWARD.revision(head.number if head else number))
        async with (
            AsyncClient(app_id=APP_ID, reward_address=address) as client,
            AsyncRewardControlClient(self._stage.services.address("reward", "control")) as control,
        ):
            await control.load_revision(name)
            return await measure.reward_accuracy(client, self._judge, taste.std, pairs, name)

    async def _sample(
        self, client: AsyncClient, cases: Sequence[grammar.PromptCase], revision: str, completions: int = 1
    ) -> list[measure.Sampled]:
        return await measure.sample(
            client, cases, revision, seed=REPORT_SEED, completions=completions, max_tokens=MAX_TOKENS
        )

    async def _examples(self) -> list[Example]:
        """All live examples of the join, once it has read all there is."""
        async with AsyncFeedbackControlClient(self._stage.services.address("join", "control")) as join:

            async def has_read_all() -> bool:
                return not any(topic.lag_records for topic in (await join.status()).topics)

            await _until(has_read_all, CATCH_UP_TIMEOUT_S)
            found: dict[int, Example] = {}
            sequence = removal = 0
            while True:
                page = await join.read_examples(sequence, after_removal=removal)
                found |= {e.sequence: e for e in page.examples}
                for removed in page.removals:
                    found.pop(removed.sequence, None)
                sequence, removal = page.last_sequence, page.last_removal
                if sequence >= page.end_sequence:
                    return list(found.values())


async def _settle(trainer: TrainerClient) -> None:
    """Lets the running step end, if the trainer has not stopped itself already."""
    await trainer.pause("the demo is over")

    async def is_at_rest() -> bool:
        return (await trainer.status()).phase in (trainer_pb2.PHASE_PAUSED, trainer_pb2.PHASE_STOPPED)

    await _until(is_at_rest, SETTLE_TIMEOUT_S)


async def _until(condition: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """Asks every 0.1 s; ServerUnavailable if it does not hold in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        if await condition():
            return
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"{condition.__name__} does not hold after {timeout_s:g} s")
        await asyncio.sleep(0.1)


def _rounded(value: Any) -> Any:
    """Figures to four digits, as people read them; None for what could not be measured, which JSON can hold."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return value
