"""RewardService on the wire: validation names the field, scores come back in order."""

from __future__ import annotations

from typing import Any

import pytest
from attune.api.reward.v1 import reward_pb2
from attune.api.types.v1 import prompts_pb2
from attune.domain.errors import InvalidInput, RevisionNotLoaded
from attune.domain.prompts import Prompt
from attune.reward.servicer import RewardServicer
from unit.reward.scoring import Running


def pair(prompt: str = "Where is my order?", completion: str = "Here.") -> reward_pb2.ScorePair:
    return reward_pb2.ScorePair(prompt=Prompt.user(prompt).to_proto(), completion=completion)


async def score(running: Running, **fields: Any) -> reward_pb2.ScoreResponse:
    return await RewardServicer(running.scorer).Score(reward_pb2.ScoreRequest(**fields), None)  # type: ignore[arg-type]


async def test_scores_come_back_in_order(running: Running) -> None:
    response = await score(running, pairs=[pair(), pair(completion=""), pair("Hello")])
    assert response.revision == "rewards/support/revisions/1"
    alone = await score(running, pairs=[pair("Hello")])
    assert response.scores[2].raw == pytest.approx(alone.scores[0].raw, abs=1e-5)
    assert response.scores[0].normalised == pytest.approx((response.scores[0].raw - 0.25) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("pairs", "field"),
    [
        ([], "pairs"),
        ([pair()] * 1025, "pairs"),
        ([pair(), reward_pb2.ScorePair(completion="x")], "pairs[1].prompt"),
        ([reward_pb2.ScorePair(prompt=prompts_pb2.Prompt(text=" "))], "pairs[0].prompt.text"),
        ([pair(completion="x" * 1_000_001)], "pairs[0].completion"),
    ],
    ids=["none", "too many", "no prompt", "empty prompt", "too long"],
)
async def test_bad_pairs_are_named(running: Running, pairs: list[reward_pb2.ScorePair], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await score(running, pairs=pairs)
    assert raised.value.violations[0].field == field


async def test_a_revision_that_is_not_loaded_is_an_error(running: Running) -> None:
    with pytest.raises(RevisionNotLoaded):
        await score(running, revision="2", pairs=[pair()])
