"""A trainer in one process: real learners, registry and files; servers that are small and real (tests of the loop)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from attune.domain.errors import ServerUnavailable
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, FeedbackEvent
from attune.domain.generations import Completion, FinishReason, Generation, Purpose, RevisionSpan, Sampling
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.domain.revisions import ModelName, RevisionName
from attune.modeling.anchors import write_anchors
from attune.modeling.loading import LoadedPolicy, load_policy, save_policy
from attune.modeling.reward_model import load_reward_model, reward_input, save_reward_model
from attune.modeling.tokenizer import render_prompt
from attune.platform.registry.registry import Registry
from attune.trainer.config import TrainerSettings
from attune.trainer.loop import Loop
from attune.trainer.metrics import TrainerMetrics
from attune.trainer.opening import find_start, open_workspace
from attune.trainer.servers import ExamplePage
from prometheus_client import CollectorRegistry
from support.learning import tiny_policy, tiny_reward

POLICY, REWARD, GATE = ModelName("policies", "tiny"), ModelName("rewards", "tiny"), ModelName("rewards", "tiny-gate")
ANCHORS = [([{"role": "user", "content": f"hello {i}"}], text) for i, text in enumerate(["good", "bad", "yes", "no"])]


def publish_first(registry: Registry, folder: Path, reward_is_live: bool = True) -> None:
    """Revision 1 of a tiny policy, its reward model and the gate's."""
    epoch = registry.take_epoch([POLICY, REWARD, GATE], "stages")
    policy = tiny_policy()
    save_policy(policy.model, policy.tokenizer, folder / "policy")
    registry.publish(POLICY.revision(1), folder / "policy", epoch=epoch)
    for seed, name in ((1, REWARD), (2, GATE)):
        target = folder / name.model
        save_reward_model(tiny_reward(policy, seed), target)
        write_anchors(target, ANCHORS)
        registry.publish(name.revision(1), target, epoch=epoch)
    for model in (POLICY, REWARD, GATE) if reward_is_live else (POLICY, GATE):
        registry.move_alias(model, "stable", 1, epoch=epoch, actor="stages", reason="first")


class InProcessServers:
    """Policy and reward servers as functions of the registry, and a join that holds given examples and prompts."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry, self.folder = registry, folder
        self.examples: list[Example] = []
        self.removed: list[int] = []
        self.prompts: list[Prompt] = [Prompt.user(f"hello {i}") for i in range(80)]
        self.is_down = False
        self.rollouts_asked: list[str] = []
        self.loaded: list[str] = []
        self._policies: dict[str, LoadedPolicy] = {}

    async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation:
        self._check_up()
        self.rollouts_asked.append(revision)
        policy = self._policy(revision)
        prompt_ids = tuple(render_prompt(policy.tokenizer, prompt.as_chat()))
        generator = torch.Generator().manual_seed(int(sampling.seed or 0))
        completions = tuple(
            self._complete(policy, prompt_ids, sampling, generator, revision, i) for i in range(sampling.completions)
        )
        return Generation(uuid7(), "a", "", prompt, prompt_ids, completions, revision, sampling, Purpose.ROLLOUT, 0.0)

    def _complete(self, policy, prompt_ids, sampling, generator, revision, index) -> Completion:
        ids, logprobs = list(prompt_ids), []
        while len(logprobs) < sampling.max_tokens and (not logprobs or ids[-1] != policy.tokenizer.eos_token_id):
            with torch.no_grad():
                logits = policy.model(torch.tensor([ids])).logits[0, -1]
            logp = torch.log_softmax(logits.float() / sampling.temperature, -1)
            token = int(torch.multinomial(logp.exp(), 1, generator=generator))
            ids.append(token)
            logprobs.append(logp[token].item())
        new = tuple(ids[len(prompt_ids) :])
        reason = FinishReason.EOS if new[-1] == policy.tokenizer.eos_token_id else FinishReason.LENGTH
        text = policy.tokenizer.decode(new, skip_special_tokens=True)
        return Completion(f"g/{index}", text, new, tuple(logprobs), reason, (RevisionSpan(revision, 0, len(new)),))

    async def score(self, revision: str, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        self._check_up()
        loaded = load_reward_model(self.registry.fetch(RevisionName.parse(revision), self.folder))
        scores = []
        for prompt, text in pairs:
            ids = reward_input(loaded.tokenizer, render_prompt(loaded.tokenizer, prompt.as_chat()), text)
            with torch.no_grad():
                raw = loaded.model.scores(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))
            scores.append(loaded.normalisation.normalised(raw).item())
        return scores

    async def load_policy(self, revision: str, epoch: int) -> None:
        self._check_up()
        self.loaded.append(revision)
        self._policy(revision)

    async def load_reward(self, revision: str, epoch: int) -> None:
        self._check_up()
        self.loaded.append(revision)

    async def read_examples(self, after_sequence: int, after_removal: int) -> ExamplePage:
        self._check_up()
        page = tuple(e for e in self.examples if e.sequence > after_sequence and e.sequence not in self.removed)
        end = self.examples[-1].sequence if self.examples else 0
        removed = tuple(self.removed[after_removal:])
        return ExamplePage(page, removed, end, len(self.removed), not removed)

    async def read_prompts(self) -> list[Prompt]:
        self._check_up()
        return self.prompts

    def add_comparisons(self, n: int, better: str = "good yes", worse: str = "bad no", people: int = 40) -> None:
        """n comparisons by many people, who all prefer `better`."""
        rng = random.Random(len(self.examples))
        for _ in range(n):
            a, b = (f"{(generation := uuid7())}/0", f"{generation}/1")
            sequence = len(self.examples) + 1
            event = FeedbackEvent(uuid7(), "app", f"user-{rng.randrange(people)}", Comparison(a, b))
            texts = (ExampleCompletion(a, better, ""), ExampleCompletion(b, worse, ""))
            self.examples.append(Example(sequence, Prompt.user(f"hello {sequence}"), texts, event, sequence, sequence))

    def _policy(self, revision: str) -> LoadedPolicy:
        if revision not in self._policies:
            folder = self.registry.fetch(RevisionName.parse(revision), self.folder)
            self._policies[revision] = load_policy(folder)
        return self._policies[revision]

    def _check_up(self) -> None:
        if self.is_down:
            raise ServerUnavailable("the server is down", metadata={"server": "policy"})


def settings(folder: Path, **changes) -> TrainerSettings:
    """Small batches and short pauses."""
    values = {
        "policy": "tiny",
        "reward_model": "tiny",
        "gate_model": "tiny-gate",
        "registry": str(folder / "registry"),
        "state_folder": str(folder / "state"),
        "poll_interval_s": 0.01,
        "precision": "float32",
        "max_ppo_steps_per_reward": 2,
        "reward": {
            "new_examples": 200,
            "interval_s": 3600,
            "steps": 12,
            "gate_steps": 12,
            "batch_size": 16,
            "lr": 3e-3,
        },
        "rollouts": {"prompts": 4, "completions": 2, "max_tokens": 6, "min_prompts": 4},
        "gate": {"prompts": 8, "kl_ceiling": 50.0},
        **changes,
    }
    return TrainerSettings.model_validate(values)


def open_loop(s: TrainerSettings, servers: InProcessServers, stop: asyncio.Event, owner: str = "trainer") -> Loop:
    """A loop on the registry and state folder of the settings, under a new epoch."""
    registry = servers.registry
    start = find_start(s, registry)
    epoch = registry.take_epoch([POLICY, REWARD], owner)
    metrics = TrainerMetrics(CollectorRegistry())
    return Loop(open_workspace(s, registry, servers, metrics, start, epoch, []), stop)
