"""Traffic for the benchmarks of the join: generations and events as pure functions of their numbers.

Two events for each generation of four completions. Most events name one of the last thousand generations, one in ten
any of the last days, one in fifty one that stands on the log after it. Four in ten are ratings, two comparisons, two
rankings of four, two demonstrations, whose length makes the mean event 512 bytes. Four in five come from the person
that the generation was written for. One in fifty changes an opinion and one in a hundred is sent again, unchanged.
Seven days of log time hold ten million events.

Nothing is kept: a run goes on where another ended.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import feedback_pb2, generations_pb2, prompts_pb2

APP = "shop"
START_S, EVENT_S = 1_750_000_000.0, 7 * 86_400 / 10_000_000
EVENTS_PER_GENERATION, COMPLETIONS, TOKENS = 2, 4, 32
PEOPLE, PROMPTS = 200_000, 50_000
RECENT, AHEAD = 1000, 40
GENERATIONS_A_RECORD, EVENTS_A_RECORD = 40, (100, 1000)
DEMONSTRATION_CHARACTERS = 1740
ANSWER = "Your order left our house this morning and will be with you by Friday; please write again if it is not. "
MASK = 2**64 - 1


@dataclass(frozen=True)
class Written:
    """What a part of the log holds: values of records."""

    generations: list[bytes]
    feedback: list[bytes]


def mixed(number: int) -> int:
    """64 bits that look drawn at random (the finaliser of SplitMix64)."""
    value = (number + 1) * 0x9E3779B97F4A7C15 & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def an_id(time_s: float, number: int, series: int) -> str:
    """A UUIDv7 of that time."""
    high = int(time_s * 1000) << 16 | 0x7000 | mixed(number * 4 + series) & 0xFFF
    text = f"{high:016x}{mixed(number * 4 + series + 2) & MASK >> 2 | 1 << 63:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_of(event: int) -> float:
    """When the log takes an event, seconds."""
    return START_S + event * EVENT_S


def generation_id(number: int) -> str:
    return an_id(time_of(number * EVENTS_PER_GENERATION), number, 0)


def person(dice: int) -> str:
    return f"person-{dice % PEOPLE}"


def generation(number: int) -> generations_pb2.Generation:
    name, dice = generation_id(number), mixed(number)
    revision = f"policies/support/revisions/{1 + number // 100_000}"
    message = prompts_pb2.Message(role="user", content=f"Where is order {dice % PROMPTS}? I have waited for a week.")
    return generations_pb2.Generation(
        id=name,
        app_id=APP,
        subject_id=person(dice),
        prompt=prompts_pb2.Prompt(conversation=prompts_pb2.Conversation(messages=[message])),
        prompt_token_ids=range(16),
        completions=[
            generations_pb2.Completion(
                id=f"{name}/{index}",
                text=f"{ANSWER}{dice % 1000 + index}",
                token_ids=range(100, 100 + TOKENS),
                logprobs=[-1.5] * TOKENS,
                finish_reason=generations_pb2.FINISH_REASON_EOS,
                spans=[generations_pb2.RevisionSpan(revision=revision, tokens=TOKENS)],
            )
            for index in range(COMPLETIONS)
        ],
        revision=revision,
        sampling=generations_pb2.SamplingParameters(
            max_tokens=TOKENS, temperature=1.0, top_p=1.0, top_k=0, seed=dice, completions=COMPLETIONS
        ),
        purpose=generations_pb2.PURPOSE_USER,
    )


def event(number: int) -> feedback_pb2.FeedbackEvent:
    dice = mixed(number << 32)
    named = _named(number, dice)
    names = [f"{generation_id(named)}/{index}" for index in range(COMPLETIONS)]
    said = feedback_pb2.FeedbackEvent(
        event_id=an_id(time_of(number), number, 1),
        app_id=APP,
        subject_id=person(mixed(named) if dice % 5 else dice >> 8),
        source="thumbs",
    )
    said.occurred_time.FromMicroseconds(int(time_of(number) * 1000) * 1000)
    first = dice % COMPLETIONS
    match dice >> 32 & 0xFF:
        case kind if kind < 102:
            said.rating.completion_id, said.rating.value = names[first], float(dice >> 20 & 1)
        case kind if kind < 153:
            said.comparison.chosen_completion_id = names[first]
            said.comparison.rejected_completion_id = names[first - 1]
        case kind if kind < 204:
            for index in range(COMPLETIONS):
                said.ranking.tiers.add(completion_ids=[names[first - index]])
        case _:
            said.demonstration.completion_id = names[first]
            said.demonstration.text = (ANSWER * 18)[:DEMONSTRATION_CHARACTERS]
    return said


def _named(number: int, dice: int) -> int:
    """The number of the generation that an event names."""
    latest = number // EVENTS_PER_GENERATION
    match dice >> 40 & 0xFF:
        case kind if kind < 5:
            return latest + (dice >> 48) % AHEAD
        case kind if kind < 31:
            return (dice >> 16) % (latest + 1)
        case _:
            return max(0, latest - (dice >> 48) % RECENT)


def written(first: int, end: int) -> Written:
    """The part of the log that brings events [first, end): records of 100 to 1000 events and of forty generations."""
    dice = random.Random(first)
    feedback: list[bytes] = []
    at = first
    while at < end:
        stop = min(end, at + dice.randint(*EVENTS_A_RECORD))
        feedback.append(_feedback_record(at, stop))
        at = stop
    return Written(list(_generation_records(first // EVENTS_PER_GENERATION, end // EVENTS_PER_GENERATION)), feedback)


def _generation_records(first: int, end: int) -> Iterator[bytes]:
    for at in range(first, end, GENERATIONS_A_RECORD):
        numbers = range(at, min(end, at + GENERATIONS_A_RECORD))
        batch = events_pb2.GenerationBatch(generations=map(generation, numbers))
        yield batch.SerializeToString()


def _feedback_record(first: int, end: int) -> bytes:
    batch = events_pb2.FeedbackBatch()
    for number in range(first, end):
        said = event(number)
        batch.events.add(event=said).accept_time.CopyFrom(said.occurred_time)
        if number % 100 == 7:
            batch.events.add(event=said).accept_time.CopyFrom(said.occurred_time)
        if number % 50 == 3 and said.HasField("rating"):
            again = batch.events.add(event=said)
            again.event.event_id = an_id(time_of(number), number, 3)
            again.event.rating.value = 1 - said.rating.value
            again.accept_time.CopyFrom(said.occurred_time)
    return batch.SerializeToString()
