"""The figures, each on numbers worked by hand; sampling and scoring through small real servers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from attune.client import AsyncClient, Completion, Purpose
from attune.domain.errors import RegistryCorrupt
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, FeedbackEvent
from attune.domain.generations import FinishReason, RevisionSpan
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.domain.revisions import ModelName
from attune.modeling.loading import load_policy
from attune.platform.registry.registry import Registry
from attune.simulation import measure
from attune.simulation.grammar import PromptCase
from attune.simulation.measure import Sampled
from tiny_models import tiny_policy_folder
from unit.client.servers import SmallServer, running_server

POLICY, REWARD = ModelName("policies", "a"), ModelName("rewards", "a")


def length(prompt: str, completion: str) -> float:
    return float(len(completion))


def sampled(*texts: str, kind: str = "support", prompt: str = "hello") -> Sampled:
    span = (RevisionSpan("policies/a/revisions/1", 0, 1),)
    completions = [Completion(f"g/{i}", t, (5,), (-1.0,), FinishReason.EOS, span) for i, t in enumerate(texts)]
    return Sampled(PromptCase(kind, prompt, "", "", ""), (7,), tuple(completions))


def test_win_rate_counts_ties_half_and_goes_by_kind() -> None:
    before = [sampled("aa"), sampled("aa"), sampled("aa", kind="safety"), sampled("aa", kind="safety")]
    after = [sampled("aaa"), sampled("bb"), sampled("a", kind="safety"), sampled("a", kind="safety")]
    assert measure.win_rate(length, before, after) == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert measure.win_rate(length, before, after, "support") == 0.75
    assert measure.win_rate(length, before, after, "safety") == 0.0


def test_distinct_and_mean() -> None:
    found = [sampled("a", "a"), sampled("a", "bbb")]
    assert measure.distinct(found) == 0.5
    assert measure.mean_score(length, found) == 1.5


@pytest.fixture
def small() -> Iterator[SmallServer]:
    with running_server() as server:
        yield server


async def test_sampling_leaves_no_trace_and_repeats(small: SmallServer) -> None:
    cases = [PromptCase("support", f"hello {i}", "", "", "") for i in range(5)]
    async with AsyncClient(app_id="demo", policy_address=small.address) as client:
        found = await measure.sample(client, cases, "1", seed=100, completions=2, max_tokens=9)
    assert [one.case for one in found] == cases
    assert all(one.texts == ("one", "two") for one in found)
    requests = {r.prompt.conversation.messages[0].content: r for r in small.policy.script.seen}
    assert [requests[c.prompt].sampling.seed for c in cases] == [100, 101, 102, 103, 104]
    assert {(r.purpose, r.revision) for r in requests.values()} == {(Purpose.ROLLOUT, "1")}


async def test_reward_accuracy_asks_only_of_clear_pairs(small: SmallServer) -> None:
    """The small server's score is the length: it agrees with `length`, and not with its opposite."""
    found = [sampled("a", "aaaa", "aaaaa"), sampled("bb", "bbbbbbb")]
    async with AsyncClient(app_id="demo", reward_address=small.address) as client:
        assert await measure.reward_accuracy(client, length, 4.0, found, "rewards/a/revisions/1") == 1.0
        assert await measure.reward_accuracy(client, lambda p, c: -length(p, c), 4.0, found) == 0.0
        # 1 against 4 and 5 are clear, 4 against 5 is not; 2 against 7 is.
        mostly = await measure.reward_accuracy(client, lambda p, c: len(c) if len(c) < 7 else 0.0, 3.9, found)
    assert mostly == pytest.approx(2 / 3)


def test_kl_is_the_gap_summed_over_a_response(tmp_path: Path) -> None:
    reference = load_policy(tiny_policy_folder(tmp_path / "policy"))
    prompt, tokens = (7, 8, 9), (20, 30, 1)
    with torch.inference_mode():
        logits = reference.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
    logp = torch.log_softmax(logits, -1)
    own = [logp[len(prompt) - 1 + i, t].item() for i, t in enumerate(tokens)]
    completion = Completion("g/0", "", tokens, tuple(x + 0.25 for x in own), FinishReason.EOS, ())
    same = Completion("g/1", "", tokens, tuple(own), FinishReason.EOS, ())
    case = PromptCase("support", "hello", "", "", "")
    assert measure.kl_to_reference(reference, [Sampled(case, prompt, (completion,))]) == pytest.approx(0.75, abs=1e-4)
    both = [Sampled(case, prompt, (completion, same))]
    assert measure.kl_to_reference(reference, both) == pytest.approx(0.375, abs=1e-4)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def example(sequence: int, accept_time: float) -> Example:
    g = uuid7()
    event = FeedbackEvent(uuid7(), "demo", "ada", Comparison(f"{g}/0", f"{g}/1"))
    completions = tuple(ExampleCompletion(f"{g}/{i}", "x", "policies/a/revisions/1") for i in range(2))
    return Example(sequence, Prompt.user("hi"), completions, event, accept_time, accept_time)


def history(folder: Path, ranges: str = "[[3, 4]]") -> tuple[Registry, Clock]:
    """Reward 2 learned from examples 3 and 4 and policy 2 from it; reward 3 from 5, which no policy has used."""
    clock = Clock()
    registry = Registry(folder / "registry", clock=clock)
    epoch = registry.take_epoch([POLICY, REWARD], "test")
    (folder / "weights").mkdir()
    (folder / "weights" / "config.json").write_text("{}")

    def publish(model: ModelName, number: int, **lineage) -> None:
        (folder / "weights" / "config.json").write_text(f"{model} {number}")
        registry.publish(model.revision(number), folder / "weights", epoch=epoch, **lineage)
        registry.move_alias(model, "stable", number, epoch=epoch, actor="test", reason="")

    publish(REWARD, 1)
    publish(POLICY, 1)
    publish(REWARD, 2, parent=1, details={"new_examples": ranges})
    clock.now = 1020.0
    publish(POLICY, 2, parent=1, reward_revision=str(REWARD.revision(2)))
    publish(REWARD, 3, parent=2, details={"new_examples": "[[5, 5]]"})
    return registry, clock


def test_freshness_is_from_the_acknowledgement_to_the_first_answer_that_learned_from_it(tmp_path: Path) -> None:
    registry, _ = history(tmp_path)
    examples = [example(1, 900.0), example(2, 1001.0), example(3, 1002.0), example(4, 1010.0), example(5, 1015.0)]
    served = {str(POLICY.revision(1)): 990.0, str(POLICY.revision(2)): 1023.0}
    fresh = measure.freshness(registry, POLICY, REWARD, examples, served, since=1000.0, end=1040.0)
    # 3 waited 21 s, 4 waited 13 s; 5 was drawn and never served: its age is 25 s; 2 was drawn into nothing.
    assert (fresh.p50_s, fresh.p95_s) == (21.0, 25.0)
    assert (fresh.served, fresh.unserved, fresh.excluded) == (2, 1, 1)


def test_an_answer_before_the_promotion_does_not_count(tmp_path: Path) -> None:
    registry, _ = history(tmp_path)
    served = {str(POLICY.revision(2)): 1005.0}  # pinned by someone before it was stable
    fresh = measure.freshness(registry, POLICY, REWARD, [example(3, 1002.0)], served, since=1000.0, end=1040.0)
    assert fresh.p50_s == 18.0


def test_without_updates_there_is_no_figure(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    fresh = measure.freshness(registry, POLICY, REWARD, [example(3, 1002.0)], {}, since=1000.0, end=1040.0)
    assert math.isnan(fresh.p50_s)
    assert (fresh.served, fresh.unserved, fresh.excluded) == (0, 0, 1)


def test_a_manifest_that_lies_is_no_figure(tmp_path: Path) -> None:
    registry, _ = history(tmp_path, ranges='"many"')
    with pytest.raises(RegistryCorrupt):
        measure.freshness(registry, POLICY, REWARD, [example(3, 1002.0)], {}, since=1000.0, end=1040.0)
