"""RewardService on the wire: requests are read into domain types, handed to the scorer, and its answer written back."""

from __future__ import annotations

import grpc.aio

from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.domain.errors import InvalidInput
from attune.domain.prompts import Prompt
from attune.reward.scorer import MAX_PAIRS, Scorer

MAX_COMPLETION_CHARACTERS = 1_000_000


class RewardServicer(reward_pb2_grpc.RewardServiceServicer):
    """The app port of a reward server. Errors rise; the interceptor turns them into statuses."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def Score(
        self, request: reward_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> reward_pb2.ScoreResponse:
        if not 1 <= len(request.pairs) <= MAX_PAIRS:
            raise InvalidInput.field("pairs", f"must be 1 to {MAX_PAIRS} pairs")
        pairs = [read_pair(proto, f"pairs[{i}]") for i, proto in enumerate(request.pairs)]
        scored = await self._scorer.score(pairs, request.revision)
        scores = [
            reward_pb2.Score(raw=raw, normalised=normalised)
            for raw, normalised in zip(scored.raw, scored.normalised, strict=True)
        ]
        return reward_pb2.ScoreResponse(revision=scored.revision, scores=scores)


def read_pair(proto: reward_pb2.ScorePair, field: str) -> tuple[Prompt, str]:
    """An empty completion is scored: a policy may write one."""
    if len(proto.completion) > MAX_COMPLETION_CHARACTERS:
        raise InvalidInput.field(f"{field}.completion", f"must have at most {MAX_COMPLETION_CHARACTERS} characters")
    return Prompt.from_proto(proto.prompt, f"{field}.prompt"), proto.completion
