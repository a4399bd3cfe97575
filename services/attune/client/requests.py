"""Calls made of plain arguments, for the blocking and the asyncio client alike; nothing is sent here.

What a server checks is not checked twice: a bad value travels and comes back as InvalidInput.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Required, TypedDict, TypeVar

from attune.api.feedback.v1 import feedback_pb2, feedback_pb2_grpc
from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.api.types.v1 import generations_pb2
from attune.client.calls import Call
from attune.client.gathering import gathered
from attune.client.results import Delta, GenerationResult, Receipt, Scores, feedback_result, stream_item
from attune.domain.errors import AttuneError, ConfigurationInvalid
from attune.domain.feedback import Comparison, Demonstration, Feedback, FeedbackEvent, Ranking, Rating
from attune.domain.generations import Completion, Purpose
from attune.domain.ids import uuid7
from attune.domain.prompts import Message, Prompt

MAX_EVENTS_PER_CALL = 1000
MAX_EVENTS_PER_MESSAGE = 100

C = TypeVar("C")

PromptLike = str | Prompt | Sequence[Message | Mapping[str, str]]
"""A string is one user turn; `Prompt(text=...)` is bare text; a list holds messages of role and content."""

CompletionLike = str | Completion
"""A completion or its id."""

RankingLike = Iterable[CompletionLike | Sequence[CompletionLike]]
"""Best first; a list inside is a tie."""


@dataclass(frozen=True)
class Timeouts:
    """How long calls may take, all attempts together, unless a call says otherwise."""

    generate_s: float = 60.0
    feedback_s: float = 10.0
    score_s: float = 60.0
    stream_feedback_s: float = 3600.0


class GenerateOptions(TypedDict, total=False):
    """What a generation may be told; what is absent or None is left to the server."""

    completions: int | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: Sequence[str]
    revision: str
    purpose: Purpose
    subject_id: str
    generation_id: str
    timeout_s: float | None


class FeedbackOptions(TypedDict, total=False):
    """Who says it (required), where such ratings come from, and the event's id if the app keeps its own."""

    subject_id: Required[str]
    source: str
    event_id: str
    timeout_s: float | None


def prompt_of(prompt: PromptLike) -> Prompt:
    if isinstance(prompt, Prompt):
        return prompt
    if isinstance(prompt, str):
        return Prompt.user(prompt)
    return Prompt(messages=tuple(m if isinstance(m, Message) else Message(m["role"], m["content"]) for m in prompt))


def generate_request(app_id: str, prompt: PromptLike, options: GenerateOptions) -> policy_pb2.GenerateRequest:
    """Without a generation id among the options, every call of this function draws a new one."""
    sampling = generations_pb2.SamplingParameters(
        max_tokens=options.get("max_tokens"),
        temperature=options.get("temperature"),
        top_p=options.get("top_p"),
        top_k=options.get("top_k"),
        seed=options.get("seed"),
        stop=options.get("stop", ()),
        completions=options.get("completions"),
    )
    return policy_pb2.GenerateRequest(
        app_id=app_id,
        generation_id=options.get("generation_id") or uuid7(),
        subject_id=options.get("subject_id", ""),
        prompt=prompt_of(prompt).to_proto(),
        sampling=sampling,
        revision=options.get("revision", ""),
        purpose=int(options.get("purpose", Purpose.USER)),  # type: ignore[arg-type]
    )


def generate(app_id: str, prompt: PromptLike, options: GenerateOptions, default_s: float) -> Call[GenerationResult]:
    return Call(
        lambda channel: policy_pb2_grpc.PolicyServiceStub(channel).Generate,
        lambda: generate_request(app_id, prompt, options),
        GenerationResult.from_proto,
        _or_default(options.get("timeout_s"), default_s),
    )


def stream(
    app_id: str, prompt: PromptLike, options: GenerateOptions, default_s: float
) -> Call[Delta | GenerationResult]:
    return Call(
        lambda channel: policy_pb2_grpc.PolicyServiceStub(channel).GenerateStream,
        lambda: policy_pb2.GenerateStreamRequest(request=generate_request(app_id, prompt, options)),
        stream_item,
        _or_default(options.get("timeout_s"), default_s),
    )


def score(
    pairs: Iterable[tuple[PromptLike, str]], revision: str, timeout_s: float | None, default_s: float
) -> Call[Scores]:
    made = [reward_pb2.ScorePair(prompt=prompt_of(prompt).to_proto(), completion=text) for prompt, text in pairs]
    request = reward_pb2.ScoreRequest(revision=revision, pairs=made)
    return Call(
        lambda channel: reward_pb2_grpc.RewardServiceStub(channel).Score,
        lambda: request,
        Scores.from_proto,
        _or_default(timeout_s, default_s),
    )


def rating(completion: CompletionLike, value: float) -> Rating:
    return Rating(_completion_id(completion), float(value))


def comparison(chosen: CompletionLike, rejected: CompletionLike) -> Comparison:
    return Comparison(_completion_id(chosen), _completion_id(rejected))


def ranking(best_to_worst: RankingLike) -> Ranking:
    tiers = [[tier] if isinstance(tier, str | Completion) else tier for tier in best_to_worst]
    return Ranking(tuple(tuple(map(_completion_id, tier)) for tier in tiers))


def demonstration(completion: CompletionLike, text: str) -> Demonstration:
    return Demonstration(_completion_id(completion), text)


def new_event(
    app_id: str, feedback: Feedback, *, subject_id: str, source: str = "", event_id: str = ""
) -> FeedbackEvent:
    """An event with an id, drawn here once, so that sending it again, by a retry or after a crash, counts once."""
    return FeedbackEvent(event_id or uuid7(), app_id, subject_id, feedback, source, occurred_time=time.time())


def give(app_id: str, feedback: Feedback, options: FeedbackOptions, default_s: float) -> Call[Receipt]:
    """A new event of this feedback, to submit."""
    event = new_event(
        app_id,
        feedback,
        subject_id=options["subject_id"],
        source=options.get("source", ""),
        event_id=options.get("event_id", ""),
    )
    return submit(event, options.get("timeout_s"), default_s)


def submit(event: FeedbackEvent, timeout_s: float | None, default_s: float) -> Call[Receipt]:
    request = feedback_pb2.SubmitFeedbackRequest(event=event.to_proto())
    return Call(
        lambda channel: feedback_pb2_grpc.FeedbackServiceStub(channel).SubmitFeedback,
        lambda: request,
        lambda response: Receipt.from_proto(response.receipt),
        _or_default(timeout_s, default_s),
    )


def ingest(
    events: Iterable[FeedbackEvent], timeout_s: float | None, default_s: float
) -> Iterator[Call[list[Receipt | AttuneError]]]:
    """As many calls as the server's limit of events makes necessary, one after the other."""
    protos = [event.to_proto() for event in events]
    for start in range(0, len(protos), MAX_EVENTS_PER_CALL):
        request = feedback_pb2.IngestFeedbackRequest(events=protos[start : start + MAX_EVENTS_PER_CALL])
        yield _ingest(request, _or_default(timeout_s, default_s))


def _ingest(request: feedback_pb2.IngestFeedbackRequest, timeout_s: float) -> Call[list[Receipt | AttuneError]]:
    return Call(
        lambda channel: feedback_pb2_grpc.FeedbackServiceStub(channel).IngestFeedback,
        lambda: request,
        lambda response: [feedback_result(result) for result in response.results],
        timeout_s,
    )


def stream_feedback(
    events: AsyncIterable[FeedbackEvent], timeout_s: float | None, default_s: float
) -> Call[list[Receipt | AttuneError]]:
    """A message of the stream holds what the source has at hand, and so does its answer."""

    async def messages() -> AsyncIterator[feedback_pb2.StreamFeedbackRequest]:
        async with aclosing(gathered(events, MAX_EVENTS_PER_MESSAGE)) as lists:
            async for at_hand in lists:
                yield feedback_pb2.StreamFeedbackRequest(events=[event.to_proto() for event in at_hand])

    return Call(
        lambda channel: feedback_pb2_grpc.FeedbackServiceStub(channel).StreamFeedback,
        messages,
        lambda response: [feedback_result(result) for result in response.results],
        _or_default(timeout_s, default_s),
        may_retry=False,
    )


def named(connections: Mapping[str, C], server: str) -> C:
    """The connection to a server, or ConfigurationInvalid: the client was made without its address."""
    if server not in connections:
        raise ConfigurationInvalid(f"this client was made without {server}_address")
    return connections[server]


def _completion_id(completion: CompletionLike) -> str:
    return completion if isinstance(completion, str) else completion.id


def _or_default(timeout_s: float | None, default_s: float) -> float:
    return default_s if timeout_s is None else timeout_s
