"""Rollouts: gathered in order with a seed each, scored by one revision, saved and loaded whole."""

import pytest
from attune.domain.errors import RevisionNotLoaded, ServerUnavailable
from attune.domain.generations import Completion, FinishReason, Generation, Purpose, RevisionSpan, Sampling
from attune.domain.prompts import Prompt
from attune.modeling.tokenizer import render_prompt
from attune.trainer.rollouts import Rollout, RolloutBatch, sample, sample_here, scored
from support.learning import tiny_policy


class Echo:
    """Generates the prompt's words and the seed; scores by length."""

    def __init__(self) -> None:
        self.scored_with: list[str] = []
        self.spans: tuple[RevisionSpan, ...] = ()

    async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation:
        words = prompt.messages[0].content.split()
        completions = tuple(
            Completion(
                f"g/{i}", f"{words[0]} {sampling.seed}", (7, 1), (-0.5, -0.25), FinishReason(1 + i % 2), self.spans
            )
            for i in range(sampling.completions)
        )
        return Generation("g", "a", "", prompt, (3, 4, 5), completions, revision, sampling, Purpose.ROLLOUT, 0.0)

    async def score(self, revision, pairs):
        self.scored_with.append(revision)
        return [float(len(text)) for _, text in pairs]


async def test_samples_keep_order_and_seeds_and_scores_follow():
    servers = Echo()
    prompts = [Prompt.user("one x"), Prompt.user("three y")]
    samples = await sample(servers, prompts, "policies/p/revisions/3", Sampling(completions=2), seed=100)
    assert [s.completion.text for s in samples] == ["one 100", "one 100", "three 101", "three 101"]
    assert [s.ended for s in samples] == [True, False, True, False]
    batch = await scored(servers, samples, "policies/p/revisions/3", "rewards/r/revisions/2")
    assert servers.scored_with == ["rewards/r/revisions/2"]
    assert [r.score for r in batch.rollouts] == [7.0, 7.0, 9.0, 9.0]


async def test_what_another_revision_went_on_with_is_no_rollout():
    servers, name = Echo(), "policies/p/revisions/3"
    servers.spans = (RevisionSpan(name, 0, 2),)
    assert await sample(servers, [Prompt.user("one x")], name, Sampling(), seed=1)
    servers.spans = (RevisionSpan(name, 0, 1), RevisionSpan("policies/p/revisions/4", 1, 1))
    with pytest.raises(RevisionNotLoaded, match="revisions/4 wrote some"):
        await sample(servers, [Prompt.user("one x")], name, Sampling(), seed=1)


async def test_a_server_that_fails_meanwhile_raises_its_own_error():
    class Failing(Echo):
        async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation:
            raise ServerUnavailable(f"away at seed {sampling.seed}")

    with pytest.raises(ServerUnavailable, match="away at seed 1"):
        await sample(Failing(), [Prompt.user("one x")] * 3, "policies/p/revisions/3", Sampling(), seed=1)


def test_sampled_here_each_prompt_has_its_completions_by_the_revision():
    policy, name = tiny_policy(), "policies/p/revisions/3"
    prompts = [Prompt.user("hello 1"), Prompt.user("good")]
    samples = sample_here(policy, name, prompts, Sampling(completions=2, max_tokens=5), seed=1)
    assert [s.prompt for s in samples] == [prompts[0], prompts[0], prompts[1], prompts[1]]
    for s in samples:
        assert s.prompt_ids == tuple(render_prompt(policy.tokenizer, s.prompt.as_chat()))
        assert s.completion.spans == (RevisionSpan(name, 0, len(s.completion.token_ids)),)
        assert s.ended == (s.completion.token_ids[-1] == policy.tokenizer.eos_token_id)
        assert s.completion.text == policy.tokenizer.decode(s.completion.token_ids, skip_special_tokens=True)


def test_a_saved_batch_is_the_same(tmp_path):
    rollouts = (
        Rollout((1, 2, 3), (9, 8), (-0.123456789, -2.5), True, 0.1),
        Rollout((4,), (7,), (-1e-7,), False, -3.25),
    )
    batch = RolloutBatch("policies/p/revisions/1", "rewards/r/revisions/1", rollouts)
    batch.save(tmp_path / "rollouts.safetensors")
    assert RolloutBatch.load(tmp_path / "rollouts.safetensors", batch.policy_revision, batch.reward_revision) == batch
