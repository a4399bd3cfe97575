"""Rollouts: gathered in order with a seed each, scored by one revision, saved and loaded whole."""

from attune.domain.generations import Completion, FinishReason, Generation, Purpose, Sampling
from attune.domain.prompts import Prompt
from attune.trainer.rollouts import Rollout, RolloutBatch, sample, scored


class Echo:
    """Generates the prompt's words and the seed; scores by length."""

    def __init__(self) -> None:
        self.scored_with: list[str] = []

    async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation:
        words = prompt.messages[0].content.split()
        completions = tuple(
            Completion(f"g/{i}", f"{words[0]} {sampling.seed}", (7, 1), (-0.5, -0.25), FinishReason(1 + i % 2), ())
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


def test_a_saved_batch_is_the_same(tmp_path):
    rollouts = (
        Rollout((1, 2, 3), (9, 8), (-0.123456789, -2.5), True, 0.1),
        Rollout((4,), (7,), (-1e-7,), False, -3.25),
    )
    batch = RolloutBatch("policies/p/revisions/1", "rewards/r/revisions/1", rollouts)
    batch.save(tmp_path / "rollouts.safetensors")
    assert RolloutBatch.load(tmp_path / "rollouts.safetensors", batch.policy_revision, batch.reward_revision) == batch
