"""Small servers for the client's tests: real gRPC on a free port, answers without a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from attune.api.feedback.v1 import feedback_pb2, feedback_pb2_grpc
from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.client import RetryPolicy
from attune.domain.errors import AttuneError, InvalidInput
from attune.domain.feedback import FeedbackEvent
from attune.domain.generations import Completion, FinishReason, GenerateRequest, Generation, RevisionSpan
from attune.domain.status import to_status
from attune.domain.times import to_timestamp
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

QUICK = RetryPolicy(attempts=3, first_s=0.001)
"""Retries that do not dawdle."""

REVISION = "policies/support/revisions/3"


@dataclass
class Script:
    """Errors that the next calls meet, in order; then calls succeed. `seen` holds every request."""

    errors: list[AttuneError] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)

    def meet(self, request: Any, context: grpc.ServicerContext) -> None:
        self.seen.append(request)
        if self.errors:
            context.abort_with_status(rpc_status.to_status(to_status(self.errors.pop(0))))


def generation_for(request: policy_pb2.GenerateRequest) -> Generation:
    """Says "one", "two", ... to any valid request."""
    asked = GenerateRequest.from_proto(request)
    completions = tuple(
        Completion(
            id=f"{asked.generation_id}/{i}",
            text=("one", "two", "three")[i % 3],
            token_ids=(5, 6 + i),
            logprobs=(-0.5, -1.0),
            finish_reason=FinishReason.EOS,
            spans=(RevisionSpan(REVISION, 0, 2),),
        )
        for i in range(asked.sampling.completions)
    )
    return Generation(
        asked.generation_id,
        asked.app_id,
        asked.subject_id,
        asked.prompt,
        (1, 2),
        completions,
        REVISION,
        asked.sampling,
        asked.purpose,
        1.5,
    )


class SmallPolicy(policy_pb2_grpc.PolicyServiceServicer):
    def __init__(self) -> None:
        self.script = Script()
        self.fail_after_deltas: AttuneError | None = None
        self.hang_after_deltas = False
        self.cancelled = threading.Event()
        """Set when a stream ends, by whatever end."""

    def Generate(self, request: policy_pb2.GenerateRequest, context: Any) -> policy_pb2.GenerateResponse:
        self.script.meet(request, context)
        return policy_pb2.GenerateResponse(generation=generation_for(request).to_proto(), recorded=True)

    def GenerateStream(self, request: policy_pb2.GenerateStreamRequest, context: Any) -> Iterator[Any]:
        self.script.meet(request.request, context)
        context.add_callback(self.cancelled.set)
        generation = generation_for(request.request)
        for text in ("o", "ne"):
            delta = policy_pb2.CompletionDelta(index=0, text=text, token_ids=[5], logprobs=[-0.5])
            yield policy_pb2.GenerateStreamResponse(generation_id=generation.id, delta=delta)
        if self.fail_after_deltas:
            context.abort_with_status(rpc_status.to_status(to_status(self.fail_after_deltas)))
        if self.hang_after_deltas:
            self.cancelled.wait(30)
            return
        final = policy_pb2.GenerateResponse(generation=generation.to_proto(), recorded=False)
        yield policy_pb2.GenerateStreamResponse(generation_id=generation.id, final=final)


class SmallFeedback(feedback_pb2_grpc.FeedbackServiceServicer):
    """Takes what validates; a repeated id is answered as a repeat."""

    def __init__(self) -> None:
        self.script = Script()
        self.taken: dict[str, FeedbackEvent] = {}

    def _take(self, proto: Any) -> feedback_pb2.FeedbackReceipt:
        event = FeedbackEvent.from_proto(proto)
        repeated = event.event_id in self.taken
        self.taken[event.event_id] = event
        return feedback_pb2.FeedbackReceipt(
            event_id=event.event_id, accept_time=to_timestamp(2.5), repeated_event=repeated
        )

    def _result(self, proto: Any) -> feedback_pb2.FeedbackResult:
        try:
            return feedback_pb2.FeedbackResult(event_id=proto.event_id, receipt=self._take(proto))
        except InvalidInput as error:
            return feedback_pb2.FeedbackResult(event_id=proto.event_id, status=to_status(error))

    def SubmitFeedback(self, request: Any, context: Any) -> feedback_pb2.SubmitFeedbackResponse:
        receipt = self._take(request.event)
        self.script.meet(request, context)
        return feedback_pb2.SubmitFeedbackResponse(receipt=receipt)

    def IngestFeedback(self, request: Any, context: Any) -> feedback_pb2.IngestFeedbackResponse:
        self.script.meet(request, context)
        return feedback_pb2.IngestFeedbackResponse(results=[self._result(event) for event in request.events])

    def StreamFeedback(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        for request in request_iterator:
            self.script.meet(request, context)
            yield feedback_pb2.StreamFeedbackResponse(results=[self._result(event) for event in request.events])


class SmallReward(reward_pb2_grpc.RewardServiceServicer):
    """The score of a completion is its length."""

    def __init__(self) -> None:
        self.script = Script()

    def Score(self, request: reward_pb2.ScoreRequest, context: Any) -> reward_pb2.ScoreResponse:
        self.script.meet(request, context)
        lengths = [len(pair.completion) for pair in request.pairs]
        scores = [reward_pb2.Score(raw=n, normalised=n / 2) for n in lengths]
        return reward_pb2.ScoreResponse(revision=request.revision or "rewards/support/revisions/1", scores=scores)


@dataclass
class SmallServer:
    """All small services on one port."""

    policy: SmallPolicy = field(default_factory=SmallPolicy)
    feedback: SmallFeedback = field(default_factory=SmallFeedback)
    reward: SmallReward = field(default_factory=SmallReward)
    health: health.HealthServicer = field(default_factory=health.HealthServicer)
    address: str = ""

    def set_serving(self, is_serving: bool) -> None:
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        self.health.set("", serving if is_serving else not_serving)


@contextmanager
def running_server(*registrations: Any) -> Iterator[SmallServer]:
    """A started server; `registrations` are pairs of an add_..._to_server function and a servicer."""
    small = SmallServer()
    server = grpc.server(ThreadPoolExecutor(8))
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(small.policy, server)
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(small.feedback, server)
    reward_pb2_grpc.add_RewardServiceServicer_to_server(small.reward, server)
    health_pb2_grpc.add_HealthServicer_to_server(small.health, server)
    for add_to, servicer in registrations:
        add_to(servicer, server)
    small.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield small
    finally:
        server.stop(None).wait()
