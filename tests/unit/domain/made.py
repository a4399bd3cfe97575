"""Hypothesis strategies for the vocabulary: anything valid."""

from __future__ import annotations

from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, Demonstration, Feedback, FeedbackEvent, Ranking, Rating
from attune.domain.generations import (
    Completion,
    FinishReason,
    GenerateRequest,
    Generation,
    Purpose,
    RevisionSpan,
    Sampling,
)
from attune.domain.prompts import Message, Prompt
from hypothesis import strategies as st

uuids = st.uuids().map(str)
names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=30)
later_revisions = st.lists(st.sampled_from(["policies/a/revisions/2", "policies/a/revisions/3"]), max_size=2).map(tuple)
contents = st.text(min_size=1, max_size=60).filter(str.strip)
times = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1_000_000)
traceparents = st.sampled_from(["", f"00-{1:032x}-{1:016x}-01", f"00-{2:032x}-{3:016x}-00"])
floats32 = st.floats(-50, 0, width=32)

prompts = st.one_of(
    contents.map(lambda text: Prompt(text=text)),
    st.lists(st.builds(Message, st.sampled_from(["system", "user"]), contents), min_size=1, max_size=4).map(
        lambda messages: Prompt(messages=tuple(messages))
    ),
)
samplings = st.builds(
    Sampling,
    max_tokens=st.integers(1, 4096),
    temperature=st.floats(0.01, 100),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 1000),
    seed=st.integers(0, 2**64 - 1),
    stop=st.lists(contents, max_size=3).map(tuple),
    completions=st.integers(1, 64),
)


@st.composite
def generations(draw: st.DrawFn) -> Generation:
    id = draw(uuids)
    completions = []
    for i in range(draw(st.integers(1, 4))):
        tokens = draw(st.lists(st.integers(0, 2**31), max_size=6))
        logprobs = draw(st.lists(floats32, min_size=len(tokens), max_size=len(tokens)))
        spans = (RevisionSpan("policies/a/revisions/1", 0, len(tokens)),)
        reason = draw(st.sampled_from(FinishReason))
        completions.append(
            Completion(f"{id}/{i}", draw(st.text(max_size=40)), tuple(tokens), tuple(logprobs), reason, spans)
        )
    return Generation(
        id,
        draw(names),
        draw(st.one_of(st.just(""), names)),
        draw(prompts),
        tuple(draw(st.lists(st.integers(0, 2**31), max_size=6))),
        tuple(completions),
        "policies/a/revisions/1",
        draw(samplings),
        draw(st.sampled_from(Purpose)),
        draw(times),
        draw(traceparents),
    )


@st.composite
def generate_requests(draw: st.DrawFn) -> GenerateRequest:
    return GenerateRequest(
        draw(names), draw(prompts), draw(samplings), draw(st.one_of(st.just(""), uuids)),
        draw(st.one_of(st.just(""), names)), draw(st.sampled_from(["", "canary", "7"])), Purpose.USER,
    )  # fmt: skip


@st.composite
def feedbacks(draw: st.DrawFn, generation_id: str | None = None) -> Feedback:
    """Of completions of one generation."""
    id = generation_id or draw(uuids)
    some = draw(st.lists(st.integers(0, 63), min_size=2, max_size=6, unique=True))
    a, b, *rest = [f"{id}/{i}" for i in some]
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return Rating(a, draw(st.floats(0, 1)))
    if kind == 1:
        return Comparison(a, b)
    if kind == 2:
        return Ranking(((a,), (b, *rest)) if draw(st.booleans()) else ((a, b, *rest),))
    return Demonstration(a, draw(contents))


@st.composite
def events(draw: st.DrawFn) -> FeedbackEvent:
    return FeedbackEvent(
        draw(uuids), draw(names), draw(names), draw(feedbacks()), draw(st.one_of(st.just(""), names)), draw(times)
    )


@st.composite
def examples(draw: st.DrawFn) -> Example:
    event = draw(events())
    completions = tuple(
        ExampleCompletion(c, draw(st.text(max_size=20)), "policies/a/revisions/1", draw(later_revisions))
        for c in event.feedback.completion_ids
    )
    return Example(
        draw(st.integers(1, 2**62)), draw(prompts), completions, event, draw(times), draw(times),
        draw(traceparents), tuple(draw(st.lists(traceparents.filter(bool), max_size=2))),
    )  # fmt: skip
