"""The PPO step, in the order of the design: rollouts, update, revision, checkpoint, gate, alias.

Rollouts come from the stable policy and are scored by one reward revision, both fixed at the start. The candidate is
then compared with stable on held-out prompts by the gate's reward model, which PPO never sees. The policy server writes
what is compared, both revisions side by side, or the trainer does, where the server can hold only what is live.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from attune.domain.prompts import Prompt
from attune.platform import tracing
from attune.trainer import causes
from attune.trainer.checkpoint import read_json, write_json
from attune.trainer.gates import GateVerdict, kl_ceiling, win_rate_gate
from attune.trainer.rollouts import Rollout, RolloutBatch, Sample, sample, sample_here, scored
from attune.trainer.workspace import Workspace, load_revision


async def run(w: Workspace, step: int) -> None:
    """One PPO step, from its saved input if there is one."""
    with tracing.span("policy update", links=causes.of_policy_update(w), attributes={"attune.step": step}):
        await _learn(w, step)


async def _learn(w: Workspace, step: int) -> None:
    """From the rollouts to the gate."""
    folder = w.state.input_of(step) or await _gather(w, step)
    task = read_json(folder / "input.json")
    batch = RolloutBatch.load(folder / "rollouts.safetensors", task["policy_revision"], task["reward_revision"])
    w.enter("policy_update")
    figures = await w.compute(w.learners.policy.update, batch.rollouts, w.settings.seed + step)
    publish = partial(
        w.publish_policy,
        parent=w.progress.facts["policy"],
        reward_revision=task["reward_revision"],
        example_sequence=task["example_sequence"],
        step=step,
        metrics=figures,
    )
    number = await w.publish_numbered("policies", step, task["number"], publish)
    facts = w.progress.facts | {
        "ppo_steps": w.progress.facts["ppo_steps"] + 1,
        "pending": {"kind": "policy", "number": number},
    }
    w.save(step, ("policy",), facts)
    w.show(figures)
    await settle(w)


async def settle(w: Workspace) -> None:
    """Asks the gate, unless it has spoken already, and moves the alias or restores; safe to do again."""
    w.enter("gate")
    number = w.progress.facts["pending"]["number"]
    folder = w.state.input_of(w.progress.step)
    saved = folder / "verdict.json" if folder else None
    if saved is not None and saved.exists():
        stored = read_json(saved)
        verdict = GateVerdict(stored["passed"], tuple(stored["reasons"]), stored["figures"])
    else:
        verdict = await _judge(w, number)
        if saved is not None:
            partial = saved.with_suffix(".partial")
            write_json(
                partial,
                {"passed": verdict.passed, "reasons": list(verdict.reasons), "figures": verdict.figures},
            )
            partial.replace(saved)
    w.show(verdict.figures)
    ceiling, stop = w.settings.gate.kl_ceiling, ""
    if not verdict.passed and verdict.figures.get("gate_kl", 0.0) > ceiling:
        stop = f"KL exceeded its ceiling of {ceiling:g} nats a response; the last good revision stays"
    await w.conclude("policies", number, verdict, {"policy": number}, pieces=("policy",), stop=stop)


async def _gather(w: Workspace, step: int) -> Path:
    """Samples and scores rollouts, and writes them down."""
    w.enter("rollout")
    s, facts = w.settings.rollouts, w.progress.facts
    policy = str(w.revision("policies", facts["policy"]))
    reward = str(w.revision("rewards", facts["reward"]))
    await w.servers.load_policy(policy, w.epoch)
    await w.servers.load_reward(reward, w.epoch)
    prompts = w.prompts.draw(s.prompts, random.Random(f"{w.settings.seed}/{step}/prompts"))
    samples = await sample(w.servers, prompts, policy, s.sampling(), seed=w.seed_of(step, 1))
    batch = await scored(w.servers, samples, policy, reward)
    with w.state.write_input(step) as folder:
        batch.save(folder / "rollouts.safetensors")
        write_json(
            folder / "input.json",
            {
                "kind": "policy",
                "number": w.next_number("policies"),
                "policy_revision": policy,
                "reward_revision": reward,
                "example_sequence": facts["reward_cursor"],
            },
        )
    found = w.state.input_of(step)
    assert found is not None
    return found


async def _judge(w: Workspace, number: int) -> GateVerdict:
    """The candidate against stable on held-out prompts: KL ceiling and win rate. Without prompts it does not pass."""
    s = w.settings.gate
    prompts = w.prompts.held_out(s.prompts)
    if not prompts:
        return win_rate_gate(0, 0, 0)
    candidate = await _samples(w, prompts, number)
    stable = await _stable_scores(w, prompts)
    scores = await _mean_scores(w, prompts, candidate)
    kl = await w.compute(w.learners.policy.sequence_kl, [_as_rollout(x) for x in candidate])
    outcomes = [
        (mine > theirs + s.tie_margin, abs(mine - theirs) <= s.tie_margin)
        for mine, theirs in zip(scores, stable, strict=True)
    ]
    wins, ties = sum(won for won, _ in outcomes), sum(tied for _, tied in outcomes)
    verdict = win_rate_gate(wins, ties, len(outcomes) - wins - ties, s.alpha) & kl_ceiling(kl, s.kl_ceiling)
    if verdict.passed:
        w.stable_samples = (_key(number, prompts), candidate)
    texts = [x.completion.text for x in candidate]
    return verdict & GateVerdict.of([], {"gate_kl": kl, "gate_distinct": len(set(texts)) / max(len(texts), 1)})


async def _samples(w: Workspace, prompts: Sequence[Prompt], number: int) -> list[Sample]:
    name, seed = w.revision("policies", number), w.seed_of(number, 2)
    sampling = w.settings.rollouts.sampling(completions=w.settings.gate.completions)
    if w.settings.gate.sampler == "trainer":
        device = next(w.learners.policy.actor.parameters()).device
        policy = await w.compute(load_revision, w.registry, name, device)
        return await w.compute(sample_here, policy, str(name), prompts, sampling, seed)
    await w.servers.load_policy(str(name), w.epoch)
    return await sample(w.servers, prompts, str(name), sampling, seed)


async def _stable_scores(w: Workspace, prompts: Sequence[Prompt]) -> tuple[float, ...]:
    """Scores of stable's completions by the gate's model as it is now; completions are sampled once a revision."""
    number = w.progress.facts["policy"]
    key = _key(number, prompts)
    if w.stable_samples is None or w.stable_samples[0] != key:
        w.stable_samples = (key, await _samples(w, prompts, number))
    return await _mean_scores(w, prompts, w.stable_samples[1])


def _key(number: int, prompts: Sequence[Prompt]) -> tuple[int, tuple[str, ...]]:
    return number, tuple(p.hash for p in prompts)


async def _mean_scores(w: Workspace, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> tuple[float, ...]:
    """Mean score by the gate's reward model of each prompt's completions."""
    pairs = [(x.prompt.as_chat(), x.completion.text) for x in samples]
    scores = await w.compute(w.learners.gate.scores, pairs)
    each = len(samples) // max(len(prompts), 1)
    return tuple(sum(scores[i * each : (i + 1) * each]) / each for i in range(len(prompts)))


def _as_rollout(x: Sample) -> Rollout:
    return Rollout(x.prompt_ids, x.completion.token_ids, x.completion.logprobs, x.ended, 0.0)
