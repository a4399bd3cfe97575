"""What the steps of the loop share: learners, data, registry, servers, progress, and what they do with them.

Owned by one task. Torch runs on one thread of its own at a time (`compute`), so that status calls are answered while a
step computes. `facts` are the loop's numbers inside the checkpoint:

    policy, reward       numbers of the revisions that `stable` stands at; reward is 0 while none is live
    reward_parent        number of the reward revision that the learner goes on from
    reference            number of the policy revision that KL is measured against
    reward_cursor        last example sequence whose example a promoted reward revision has seen
    attempt_cursor       last example sequence at the last reward update, promoted or not
    gate_cursor          the same for the gate's reward model
    ppo_steps            PPO steps taken on the current reward revision
    gate_is_trusted      whether the gate's reward model is better than chance on held-out feedback
    pending              the step whose gate has not spoken: kind and number
    stopped              why training was stopped to protect the policy; absent otherwise
"""

from __future__ import annotations

import asyncio
import logging
import math
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from attune.domain.errors import AlreadyPublished
from attune.domain.revisions import Kind, RevisionName
from attune.modeling.anchors import write_anchors
from attune.modeling.loading import LoadedPolicy, load_policy, save_policy
from attune.platform import tracing
from attune.platform.registry.prune import prune
from attune.platform.registry.registry import Registry
from attune.trainer.checkpoint import Progress, StateFolder
from attune.trainer.config import TrainerSettings
from attune.trainer.examples import ExampleStore
from attune.trainer.gates import GateVerdict
from attune.trainer.metrics import TrainerMetrics
from attune.trainer.policy_learner import PolicyLearner
from attune.trainer.prompts import PromptPool
from attune.trainer.reward_learner import Pair, RewardLearner
from attune.trainer.rollouts import Sample
from attune.trainer.servers import TRANSIENT, Servers
from attune.trainer.watch import Event, Happening, Watchers

log = logging.getLogger(__name__)
T = TypeVar("T")

TRACEPARENT = "traceparent"
"""In the details of a revision's manifest: the span of the step that made it."""
PRUNE_EVERY = 10
"""Promotions between two looks for weights that may go."""


@dataclass
class Learners:
    """The three that learn, the tokenizer of their revisions, and the anchors of normalisation."""

    policy: PolicyLearner
    reward: RewardLearner
    gate: RewardLearner
    tokenizer: Any
    anchors: list[Pair]

    def by_name(self) -> dict[str, PolicyLearner | RewardLearner]:
        return {"policy": self.policy, "reward": self.reward, "gate": self.gate}


@dataclass
class Workspace:
    """See the module."""

    settings: TrainerSettings
    registry: Registry
    state: StateFolder
    servers: Servers
    metrics: TrainerMetrics
    watchers: Watchers
    store: ExampleStore
    prompts: PromptPool
    learners: Learners
    progress: Progress
    epoch: int
    phase: str = "idle"
    figures: dict[str, float] = field(default_factory=dict)
    last_reward_update: float = -math.inf
    outcomes: dict[int, dict[int, float]] = field(default_factory=dict)
    """By number of a reward revision: its outcome on held-out examples, by sequence. A memory, never saved."""
    stable_samples: tuple[tuple[int, tuple[str, ...]], list[Sample]] | None = None

    async def compute(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs torch work off the event loop; the caller awaits it, so that only one runs at a time."""
        return await asyncio.to_thread(work, *arguments)

    def revision(self, kind: Kind, number: int) -> RevisionName:
        """The full name of one of this trainer's revisions."""
        return RevisionName(kind, self.settings.policy if kind == "policies" else self.settings.reward_model, number)

    def next_number(self, kind: Kind) -> int:
        return self.registry.next_number(self.revision(kind, 0).model_name)

    def seed_of(self, step: int, use: int) -> int:
        """A seed for one use in one step; uses lie far apart, so that prompt i may add i."""
        return (self.settings.seed * 1_000_003 + step) * 1_000_000 + use * 500_000

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.metrics.enter(phase)

    @property
    def stop_reason(self) -> str:
        """Why training is stopped; empty if it is not."""
        return str(self.progress.facts.get("stopped", ""))

    def _stopped(self, reason: str) -> None:
        """Tells that training is held until a person resumes it; the checkpoint says so already."""
        self.enter("stopped")
        log.error("training stopped: %s", reason)
        self.watchers.tell(Happening(Event.STOPPED, self.progress.step, reason=reason))

    def show(self, figures: Mapping[str, float]) -> None:
        """Figures of a step, for status, metrics and the log."""
        self.figures |= figures
        self.metrics.show(figures)

    def lift_stop(self) -> None:
        """A person lets training go on."""
        if self.stop_reason:
            kept = {k: v for k, v in self.progress.facts.items() if k != "stopped"}
            self._record(replace(self.progress, facts=kept))

    # Publication

    async def publish_policy(self, name: RevisionName, *, parent: int, **lineage: Any) -> None:
        """Writes the actor as a revision; doing it again with the same weights changes nothing."""
        actor, tokenizer = self.learners.policy.actor, self.learners.tokenizer
        await self.compute(self._publish, name, lambda folder: save_policy(actor, tokenizer, folder), parent, lineage)

    async def publish_reward(self, name: RevisionName, *, parent: int, **lineage: Any) -> None:
        """Writes the reward model as a revision, its anchors with it."""

        def write(folder: Path) -> None:
            self.learners.reward.publish(folder)
            write_anchors(folder, self.learners.anchors)

        await self.compute(self._publish, name, write, parent, lineage)

    async def publish_numbered(
        self, kind: Kind, step: int, number: int, publish: Callable[[RevisionName], Awaitable[None]]
    ) -> int:
        """Lets `publish` write a step's revision under `number`, that of its saved input; returns the number it got.

        If somebody else, such as a stage, has published under it meanwhile, the saved input gets the next one first,
        so that a replay finds the revision where this left it.
        """
        while True:
            try:
                await publish(self.revision(kind, number))
                return number
            except AlreadyPublished as error:
                number = self.next_number(kind)
                log.warning("step %d: %s; it becomes number %d", step, error.message, number)
                self.state.amend_input(step, number=number)

    def _publish(
        self, name: RevisionName, write: Callable[[Path], None], parent: int, lineage: Mapping[str, Any]
    ) -> None:
        if step_span := tracing.traceparent():
            lineage = {**lineage, "details": {**lineage.get("details", {}), TRACEPARENT: step_span}}
        with (
            tracing.span("publish", attributes={"attune.revision": str(name)}),
            tempfile.TemporaryDirectory(prefix="attune-revision-") as folder,
        ):
            write(Path(folder))
            self.registry.publish(name, Path(folder), parent=parent, epoch=self.epoch, **lineage)

    # Checkpoint and conclusion

    def save(self, step: int, pieces: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Writes the pieces of the named learners and points at them; the step's gate has yet to speak."""
        names = self._write_pieces(step, pieces)
        self._record(replace(self.progress, step=step, settled=False, pieces=names, facts=dict(facts)))

    def save_first(self) -> None:
        """The pieces of learners as they were loaded, as step 0."""
        names = self._write_pieces(0, tuple(self.learners.by_name()))
        self._record(replace(self.progress, settled=True, pieces=names, fallback=dict(names)))

    def adopt(self, piece: str, facts: dict[str, Any]) -> None:
        """Makes a learner's present weights its last good ones, as a step: after a person chose a revision."""
        step = self.progress.step + 1
        names = self._write_pieces(step, (piece,))
        fallback = self.progress.fallback | {piece: names[piece]}
        self._record(Progress(step, True, names, fallback, self._settled_facts() | facts))

    def _write_pieces(self, step: int, pieces: Sequence[str]) -> dict[str, str]:
        """Writes learners' states; the names of all pieces, the new among them."""
        learners, names = self.learners.by_name(), dict(self.progress.pieces)
        for name in pieces:
            with self.state.write_piece(name, step) as folder:
                learners[name].save(folder)
            names[name] = self.state.piece_name(name, step)
        return names

    def forget_step(self, stop: str = "") -> None:
        """Skips a step that must not be done again, back on the last good pieces; `stop` says why training stops."""
        step, good = self.progress.step + 1, dict(self.progress.fallback)
        self._record(Progress(step, True, good, dict(good), self._settled_facts() | _stop_fact(stop)))
        if stop:
            self._stopped(stop)

    async def conclude(
        self,
        kind: Kind,
        number: int,
        verdict: GateVerdict,
        facts: Mapping[str, Any],
        pieces: Sequence[str],
        always: Sequence[str] = (),
        stop: str = "",
    ) -> None:
        """Ends a step: the alias moves and the pieces become the fallback, or the learners go back to theirs.

        `facts` count only if the verdict passed; the pieces named in `always` are kept either way. `stop` says why
        training stops with this step, until a person resumes it.
        """
        name = self.revision(kind, number)
        now, fallback = dict(self.progress.pieces), dict(self.progress.fallback)
        if verdict.passed:
            await self._promote(kind, number)
        else:
            for piece in pieces:
                now[piece] = fallback[piece]
                await self.compute(self.learners.by_name()[piece].load, self.state.piece(fallback[piece]))
        for piece in (*pieces, *always):
            fallback[piece] = now[piece]
        kept = self._settled_facts() | (dict(facts) if verdict.passed else {}) | _stop_fact(stop)
        self._record(replace(self.progress, settled=True, pieces=now, fallback=fallback, facts=kept))
        self._announce(kind, name, verdict)
        if stop:
            self._stopped(stop)
        if verdict.passed and number % PRUNE_EVERY == 0:
            await self.compute(self._prune, kind)

    def _settled_facts(self) -> dict[str, Any]:
        """The facts when no gate has yet to speak."""
        return {k: v for k, v in self.progress.facts.items() if k != "pending"}

    def _prune(self, kind: Kind) -> None:
        """Deletes weights of old revisions; what is aliased and what learning goes on from stays."""
        needed = ("policy", "reference") if kind == "policies" else ("reward", "reward_parent")
        also_keep = [int(self.progress.facts[name]) for name in needed]
        model = self.revision(kind, 0).model_name
        gone = prune(self.registry, model, keep_last=self.settings.keep_revisions, also_keep=also_keep)
        if gone:
            log.info("pruned %d revisions of %s", len(gone), model)

    async def _promote(self, kind: Kind, number: int) -> None:
        """Preloads, then points `stable` at the revision; a server that is away will follow the alias later."""
        name = self.revision(kind, number)
        with tracing.span("promote", attributes={"attune.revision": str(name)}):
            is_there = not self.settings.only_saved_inputs and await self.ask_to_load(name)
            await self.compute(self._point_stable_at, name)
            if is_there:
                await self.ask_to_load(name)  # it is loaded; asked again, the server looks at its aliases at once

    async def ask_to_load(self, name: RevisionName) -> bool:
        """Whether the server of this kind has the revision."""
        load = self.servers.load_policy if name.kind == "policies" else self.servers.load_reward
        try:
            await load(str(name), self.epoch)
        except TRANSIENT as error:
            log.warning("%s could not be preloaded: %s", name, error)
            return False
        return True

    def _point_stable_at(self, name: RevisionName) -> None:
        head = self.registry.alias(name.model_name, "stable")
        if head is None or head.number != name.number:
            self.registry.move_alias(
                name.model_name, "stable", name.number, epoch=self.epoch, actor="trainer", reason="passed its gate"
            )

    def _record(self, progress: Progress) -> None:
        self.progress = progress
        self.state.record(progress)
        self.metrics.checkpoint_time.set_to_current_time()
        self.show_stable()

    def show_stable(self) -> None:
        """Tells which revisions the aliases stand at, for those who compare servers with it."""
        for kind in ("policy", "reward"):
            self.metrics.stable_number.labels(kind).set(self.progress.facts[kind])

    def _announce(self, kind: Kind, name: RevisionName, verdict: GateVerdict) -> None:
        noun = "policy" if kind == "policies" else "reward"
        outcome = "promoted" if verdict.passed else "rejected"
        self.metrics.steps.labels(noun, outcome).inc()
        event = Event[f"{noun}_{outcome}".upper()]
        reason = "; ".join(verdict.reasons)
        tracing.note({"attune.revision": str(name), "attune.outcome": outcome, "attune.reason": reason})
        self.watchers.tell(Happening(event, self.progress.step, str(name), reason, dict(self.figures)))
        log.info("step %d: %s %s %s", self.progress.step, name, outcome, reason)


def load_revision(registry: Registry, name: RevisionName, device: torch.device) -> LoadedPolicy:
    """A policy revision, as it was published."""
    with tempfile.TemporaryDirectory(prefix="attune-fetch-") as folder:
        return load_policy(registry.fetch(name, Path(folder)), device)


def _stop_fact(reason: str) -> dict[str, str]:
    return {"stopped": reason} if reason else {}
