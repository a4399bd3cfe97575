"""Opening a workspace: wait for first revisions, take the epoch, load the learners, go on from the checkpoint.

The policy, the reward model and the gate's reward model must each have a revision; until then the trainer waits and
says which command publishes it. A fresh state folder starts from the stable revisions; a used one from its checkpoint,
unless a person has moved the alias meanwhile: then from what the alias says.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attune.domain.errors import NoRevision, RevisionUnknown
from attune.domain.prompts import Prompt
from attune.domain.revisions import Kind, ModelName, RevisionName
from attune.modeling.anchors import read_anchors
from attune.modeling.loading import device_named
from attune.modeling.revisions import publishing
from attune.modeling.reward_model import LoadedRewardModel, critic_from_reward_model, load_reward_model
from attune.platform.registry.registry import Registry
from attune.trainer.checkpoint import Progress, StateFolder
from attune.trainer.config import TrainerSettings
from attune.trainer.examples import ExampleStore
from attune.trainer.metrics import TrainerMetrics
from attune.trainer.policy_learner import PolicyLearner
from attune.trainer.prompts import PromptPool
from attune.trainer.reward_learner import RewardLearner
from attune.trainer.servers import Servers
from attune.trainer.watch import Watchers
from attune.trainer.workspace import Learners, Workspace, load_revision

log = logging.getLogger(__name__)
PIECES: dict[Kind, str] = {"policies": "policy", "rewards": "reward"}


@dataclass(frozen=True)
class Start:
    """The revisions that training starts from; `reward` is not live if `reward_is_live` is false."""

    policy: RevisionName
    reward: RevisionName
    gate: RevisionName
    reward_is_live: bool


async def wait_for_start(
    settings: TrainerSettings,
    registry: Registry,
    metrics: TrainerMetrics,
    stop: asyncio.Event,
    say: Callable[[str], None],
) -> Start | None:
    """The first revisions, once all are there; None if told to stop before. `say` is told what is missing."""
    metrics.enter("waiting_for_revision")
    said = ""
    while not stop.is_set():
        try:
            return await asyncio.to_thread(find_start, settings, registry)
        except (NoRevision, RevisionUnknown) as error:
            if error.message != said:
                said = error.message
                log.info("waiting for first revisions: %s", said)
                say(said)
        try:
            await asyncio.wait_for(stop.wait(), settings.poll_interval_s)
        except TimeoutError:
            continue
    return None


def find_start(settings: TrainerSettings, registry: Registry) -> Start:
    """The revisions to start from. NoRevision names what is missing and the command that publishes it."""
    policy = _resolve(registry, ModelName("policies", settings.policy), ("stable",))
    reward_name = ModelName("rewards", settings.reward_model)
    # A first reward model that is no better than chance has no stable alias, but learning may start from it.
    reward = _resolve(registry, reward_name, ("stable", "latest"))
    gate = _resolve(registry, ModelName("rewards", settings.gate_model), ("stable", "latest"))
    head = registry.alias(reward_name, "stable")
    return Start(policy, reward, gate, head is not None)


def _resolve(registry: Registry, model: ModelName, selectors: tuple[str, ...]) -> RevisionName:
    for selector in selectors:
        try:
            return registry.resolve(model, selector)
        except (NoRevision, RevisionUnknown):
            continue
    raise NoRevision(f"{model} has no revision; publish one: {publishing(str(model))}")


def open_workspace(
    settings: TrainerSettings,
    registry: Registry,
    servers: Servers,
    metrics: TrainerMetrics,
    start: Start,
    epoch: int,
    fixed_prompts: list[Prompt],
) -> Workspace:
    """Loads everything and restores the checkpoint; blocks for as long as that takes."""
    state = StateFolder(Path(settings.state_folder), settings.keep_inputs)
    progress = state.progress()
    facts = progress.facts or _first_facts(registry, start)
    device = torch.device(device_named(settings.device))
    actor = load_revision(registry, RevisionName("policies", settings.policy, facts["policy"]), device)
    reference = load_revision(registry, RevisionName("policies", settings.policy, facts["reference"]), device)
    reward, anchors = _load_reward(registry, start.reward, device)
    gate, _ = _load_reward(registry, start.gate, device)
    critic = critic_from_reward_model(reward.model, reward.normalisation)
    learners = Learners(
        policy=PolicyLearner(
            actor.model, critic, reference.model, int(actor.tokenizer.pad_token_id), settings.ppo_settings()
        ),
        reward=RewardLearner(reward, settings.reward_settings()),
        gate=RewardLearner(gate, settings.reward_settings()),
        tokenizer=actor.tokenizer,
        anchors=anchors,
    )
    workspace = Workspace(
        settings=settings,
        registry=registry,
        state=state,
        servers=servers,
        metrics=metrics,
        watchers=Watchers(metrics.happenings_lost.inc),
        store=ExampleStore(settings.split(), settings.example_capacity),
        prompts=PromptPool(settings.rollouts.held_out_share, settings.rollouts.prompt_capacity, fixed_prompts),
        learners=learners,
        progress=Progress(progress.step, progress.settled, progress.pieces, progress.fallback, facts),
        epoch=epoch,
    )
    metrics.epoch.set(epoch)
    metrics.kl_ceiling.set(settings.gate.kl_ceiling)
    workspace.show_stable()
    _restore(workspace, start)
    return workspace


def _restore(w: Workspace, start: Start) -> None:
    """Learners as the checkpoint has them, or the first checkpoint."""
    if not w.progress.pieces:
        w.save_first()
        return
    for piece, learner in w.learners.by_name().items():
        learner.load(w.state.piece(w.progress.pieces[piece]))
    for name, is_live in ((start.policy, True), (start.reward, start.reward_is_live)):
        if is_live and name.number not in _expected(w.progress, PIECES[name.kind]):
            log.info("stable was moved to %s while training was away; going on from there", name)
            adopt(w, name)


def _expected(progress: Progress, kind: str) -> set[int]:
    """Where `stable` can stand by the trainer's own doing: where it stood, or at the candidate if a kill came then."""
    pending = progress.facts.get("pending", {})
    return {progress.facts[kind]} | ({pending["number"]} if pending.get("kind") == kind else set())


def _first_facts(registry: Registry, start: Start) -> dict[str, Any]:
    data_end = registry.manifest(start.reward).example_sequence
    return {
        "policy": start.policy.number,
        "reward": start.reward.number if start.reward_is_live else 0,
        "reward_parent": start.reward.number,
        "reference": start.policy.number,
        "reward_cursor": data_end,
        "attempt_cursor": data_end,
        "gate_cursor": data_end,
        "ppo_steps": 0,
        "gate_is_trusted": False,
    }


def adopt(w: Workspace, name: RevisionName) -> None:
    """Learners go on from a revision that a person has made stable, with fresh moments."""
    if name.kind == "policies":
        _adopt_policy(w, name)
        w.adopt("policy", {"policy": name.number})
    else:
        _adopt_reward(w, name)
        w.adopt("reward", {"reward": name.number, "reward_parent": name.number, "ppo_steps": 0})


def _adopt_policy(w: Workspace, name: RevisionName) -> None:
    learner = w.learners.policy
    loaded = load_revision(w.registry, name, next(learner.actor.parameters()).device)
    learner.actor.load_state_dict(loaded.model.state_dict())
    learner.reset_optimizers()


def _adopt_reward(w: Workspace, name: RevisionName) -> None:
    learner = w.learners.reward
    loaded, _ = _load_reward(w.registry, name, next(learner.model.parameters()).device)
    learner.model.load_state_dict(loaded.model.state_dict())
    learner.normalisation = loaded.normalisation
    learner.reset_optimizer()


def _load_reward(registry: Registry, name: RevisionName, device: torch.device) -> tuple[LoadedRewardModel, list]:
    with tempfile.TemporaryDirectory(prefix="attune-fetch-") as folder:
        found = registry.fetch(name, Path(folder))
        return load_reward_model(found, device), read_anchors(found)
