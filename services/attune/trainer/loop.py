"""The loop of the trainer: wake when there is something to learn, take one step, conclude it, and look again.

A step is a reward update or a PPO step; each is written in its own module in the order in which it happens, and is
safe to do again after a kill at any point. The loop decides which comes next, waits out services that are away, obeys
people (pause, promote, roll back) between steps, and stops itself rather than harm the policy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from attune.domain.errors import InvalidInput, TrainingStopped
from attune.domain.revisions import AliasRecord, Kind, RevisionName
from attune.platform import tracing
from attune.trainer import causes, policy_step, reward_step
from attune.trainer.checkpoint import read_json
from attune.trainer.opening import adopt
from attune.trainer.servers import TRANSIENT
from attune.trainer.watch import Event, Happening
from attune.trainer.workspace import Workspace

log = logging.getLogger(__name__)

STEPS = {"reward": reward_step, "policy": policy_step}
MIN_HELD_OUT_PROMPTS = 8


@dataclass(frozen=True)
class _Request:
    """What a person asked for, in the context of the call that asks: its deadline is passed on."""

    work: Callable[[], Coroutine[Any, Any, AliasRecord]]
    answer: asyncio.Future[AliasRecord]
    context: Context


class Loop:
    """Runs a workspace until told to stop. Public methods may be called while it runs."""

    def __init__(self, workspace: Workspace, stop: asyncio.Event) -> None:
        self.workspace = workspace
        self._stop = stop
        self._wake = asyncio.Event()
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._pause_reason: str | None = None
        self._prompts_read = 0.0
        self.reason = ""

    async def run(self) -> None:
        """Steps until `stop`; raises what no retry can mend."""
        w = self.workspace
        while not self._stop.is_set():
            try:
                await self._obey()
                if self._pause_reason is not None or w.stop_reason:
                    self.reason = w.stop_reason or self._pause_reason or ""
                    w.enter("stopped" if w.stop_reason else "paused")
                    await self._rest()
                elif not w.progress.settled:
                    await self._settle()
                else:
                    await self._sync()
                    await self._next_step()
            except TRANSIENT as error:
                w.metrics.calls_failed.labels(error.metadata.get("server", "other")).inc()
                self.reason = f"waits for a service: {error.message}"
                log.warning(self.reason)
                await self._rest()
            except TrainingStopped as error:
                w.metrics.non_finite.inc()
                await self._go_back(stop=error.message)

    async def _settle(self) -> None:
        """Lets the gate of a step speak that a kill left open; the prompts it asks with are read first."""
        if not self._prompts_read:
            await self._sync()
        with tracing.span("settle", links=causes.of_pending(self.workspace)):
            await STEPS[self.workspace.progress.facts["pending"]["kind"]].settle(self.workspace)

    async def _next_step(self) -> None:
        """The step whose input is saved, else a reward update if one is due, else PPO if it may, else rest."""
        w = self.workspace
        step = w.progress.step + 1
        kind = self._kind_of(step)
        if kind is None:
            w.enter("idle")
            await self._rest()
            return
        self.reason = ""
        started = time.monotonic()
        if kind == "reward":
            w.enter("reward_update")
            w.last_reward_update = started
        await STEPS[kind].run(w, step)
        w.metrics.step_duration_s.labels(kind).observe(time.monotonic() - started)

    def _kind_of(self, step: int) -> str | None:
        w, s = self.workspace, self.workspace.settings
        if saved := w.state.input_of(step):
            return str(read_json(saved / "input.json")["kind"])
        if s.only_saved_inputs:
            self.reason = "replays saved inputs and has done the last one"
            return None
        self.reason = self._why_no_ppo()
        # A reward revision is followed before it is replaced: however fast feedback comes, PPO gets its turn.
        if reward_step.is_due(w, time.monotonic()) and (self.reason or w.progress.facts["ppo_steps"]):
            return "reward"
        return None if self.reason else "policy"

    def _why_no_ppo(self) -> str:
        """Why PPO may not step now; empty if it may."""
        w, s = self.workspace, self.workspace.settings
        facts = w.progress.facts
        if not facts["reward"]:
            return "waits for a reward revision that is better than chance"
        if not facts["gate_is_trusted"]:
            return "the gate's reward model is not yet better than chance on held-out feedback"
        if facts["ppo_steps"] >= s.max_ppo_steps_per_reward:
            return f"took {facts['ppo_steps']} PPO steps on reward revision {facts['reward']}; waits for new feedback"
        if len(w.prompts.training()) < s.rollouts.min_prompts:
            return f"has {len(w.prompts.training())} training prompts and needs {s.rollouts.min_prompts}"
        if len(w.prompts.held_out(MIN_HELD_OUT_PROMPTS)) < MIN_HELD_OUT_PROMPTS:
            return f"has fewer than {MIN_HELD_OUT_PROMPTS} held-out prompts to judge a revision on"
        return ""

    async def _sync(self) -> None:
        """Reads new examples, removals and now and then all prompts."""
        w, s = self.workspace, self.workspace.settings
        if s.only_saved_inputs and w.store.last_sequence:
            return
        while True:
            page = await w.servers.read_examples(w.store.last_sequence, w.store.last_removal)
            w.store.add(page.examples)
            w.store.remove(page.removed)
            w.store.last_sequence, w.store.last_removal = page.last_sequence, page.last_removal
            if page.is_last:
                break
        if time.monotonic() - self._prompts_read >= s.prompts_interval_s or not len(w.prompts):
            w.prompts.replace(await w.servers.read_prompts())
            self._prompts_read = time.monotonic()
        for role, count in w.store.counts().items():
            w.metrics.examples.labels(role.value).set(count)
        w.metrics.prompts.set(len(w.prompts))

    async def _rest(self) -> None:
        """Waits for the next look, a request or the stop."""
        waits = [asyncio.ensure_future(e.wait()) for e in (self._stop, self._wake)]
        try:
            await asyncio.wait(waits, timeout=self.workspace.settings.poll_interval_s, return_when="FIRST_COMPLETED")
        finally:
            for wait in waits:
                wait.cancel()
        self._wake.clear()

    # People

    def pause(self, reason: str) -> None:
        """Holds before the next step."""
        self._pause_reason = reason or "paused"
        self._wake.set()

    def resume(self) -> None:
        """Goes on, also after a stop that protected the policy."""
        self._pause_reason = None
        self.workspace.lift_stop()
        self._wake.set()

    async def promote(self, name: RevisionName, actor: str, reason: str) -> AliasRecord:
        """Points stable at one of this trainer's revisions and goes on training from it."""
        return await self._ask(lambda: self._move(name, actor, reason))

    async def roll_back(self, kind: Kind, actor: str, reason: str) -> AliasRecord:
        """Points stable back at the revision before. InvalidInput if there is none."""
        return await self._ask(lambda: self._move_back(kind, actor, reason))

    async def _ask(self, work: Callable[[], Coroutine[Any, Any, AliasRecord]]) -> AliasRecord:
        """Has `work` done between two steps, within the deadline of the call that asks."""
        answer: asyncio.Future[AliasRecord] = asyncio.get_running_loop().create_future()
        self._requests.put_nowait(_Request(work, answer, copy_context()))
        self._wake.set()
        return await answer

    async def _obey(self) -> None:
        """Carries out what people asked for since the last step and still wait for; their errors go to them."""
        while not self._requests.empty():
            asked = self._requests.get_nowait()
            if asked.answer.done():
                continue  # the deadline passed while a step ran: a move that nobody waits for would surprise
            task = asyncio.get_running_loop().create_task(asked.work(), context=asked.context)
            await asyncio.wait([task])
            if asked.answer.cancelled():
                continue
            if error := task.exception():
                asked.answer.set_exception(error)
            else:
                asked.answer.set_result(task.result())

    async def _move_back(self, kind: Kind, actor: str, reason: str) -> AliasRecord:
        w = self.workspace
        model = w.revision(kind, 0).model_name
        head = w.registry.alias(model, "stable")
        if head is None or not head.previous:
            raise InvalidInput(f"{model} has no revision before its stable one")
        return await self._move(model.revision(head.previous), actor, reason or "rolled back")

    async def _move(self, name: RevisionName, actor: str, reason: str) -> AliasRecord:
        w = self.workspace
        w.registry.manifest(name)
        load = w.servers.load_policy if name.kind == "policies" else w.servers.load_reward
        await load(str(name), w.epoch)
        move = w.registry.move_alias(
            name.model_name, "stable", name.number, epoch=w.epoch, actor=actor or "person", reason=reason
        )
        await w.ask_to_load(name)  # so that the server looks at its aliases at once
        if not w.progress.settled:
            await self._go_back()  # the step whose gate has not spoken gives way
        await w.compute(adopt, w, name)
        w.watchers.tell(Happening(Event.ALIAS_MOVED, w.progress.step, str(name), reason))
        return move

    async def _go_back(self, stop: str = "") -> None:
        """Restores the learners of the last good revisions after a step that must not count."""
        w = self.workspace
        for piece, learner in w.learners.by_name().items():
            await w.compute(learner.load, w.state.piece(w.progress.fallback[piece]))
        w.forget_step(stop)
