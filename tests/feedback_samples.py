"""Small generations, events and log entries for the tests of feedback, and the rows of a join database as values."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attune.domain.feedback import AcceptedFeedback, Feedback, FeedbackEvent, Ranking, Rating
from attune.domain.generations import Completion, FinishReason, Generation, Purpose, RevisionSpan, Sampling
from attune.domain.prompts import Prompt
from attune.feedback.join import tables
from attune.feedback.join.rows import (
    FeedbackEntry,
    GenerationEntry,
    Limits,
    Place,
    feedback_entry,
    generation_entry,
)
from sqlalchemy import Engine, select

APP = "shop"
REVISION = "policies/support/revisions/1"
GENERATIONS = "attune.generations"
FEEDBACK = "attune.feedback"
NOON_S = 1_700_000_000.0
LIMITS = Limits(pending_ttl_us=60_000_000, generation_retention_us=600_000_000, prompt_capacity=100)


def an_id(number: int) -> str:
    """A UUID that is easy to read in a failure."""
    return str(uuid.UUID(int=number))


def a_generation(
    number: int = 1,
    *,
    prompt: str = "where is my order?",
    texts: Sequence[str] = ("it is on its way", "no idea"),
    subject_id: str = "ann",
    app_id: str = APP,
    revision: str = REVISION,
    purpose: Purpose = Purpose.USER,
) -> Generation:
    """A generation whose id is made of `number`."""
    name = an_id(number)
    completions = tuple(
        Completion(
            f"{name}/{i}", text, (5, 6, 2), (-0.5, -0.25, -1.0), FinishReason.EOS, (RevisionSpan(revision, 0, 3),)
        )
        for i, text in enumerate(texts)
    )
    return Generation(
        id=name,
        app_id=app_id,
        subject_id=subject_id,
        prompt=Prompt.user(prompt),
        prompt_token_ids=(1, 2, 3),
        completions=completions,
        revision=revision,
        sampling=Sampling(completions=len(texts)),
        purpose=purpose,
        create_time=NOON_S,
    )


def completion(generation: int, index: int = 0) -> str:
    """The id of a completion of `a_generation(generation)`."""
    return f"{an_id(generation)}/{index}"


def an_event(
    number: int = 1,
    feedback: Feedback | None = None,
    *,
    subject_id: str = "ann",
    app_id: str = APP,
) -> FeedbackEvent:
    """An event whose id is made of `number`; by default a thumb up for the first completion of generation 1."""
    return FeedbackEvent(an_id(1000 + number), app_id, subject_id, feedback or Rating(completion(1), 1.0))


def a_ranking(*completions: str) -> Ranking:
    """A ranking without ties, best first."""
    return Ranking(tuple((c,) for c in completions))


@dataclass
class Script:
    """Writes entries with places that follow each other; one second of log time apart unless told."""

    log_s: float = NOON_S
    generations_written: int = 0
    events_written: int = 0

    def generation(self, generation: Generation, at_s: float | None = None) -> GenerationEntry:
        place = Place(self._time_us(at_s), 0, self.generations_written, 0)
        self.generations_written += 1
        return generation_entry(GENERATIONS, place, generation.to_proto(), generation.prompt)

    def event(self, event: FeedbackEvent, at_s: float | None = None) -> FeedbackEntry:
        place = Place(self._time_us(at_s), 0, self.events_written, 0)
        self.events_written += 1
        return feedback_entry(FEEDBACK, place, AcceptedFeedback(event, place.log_us / 1_000_000))

    def _time_us(self, at_s: float | None) -> int:
        if at_s is None:
            self.log_s += 1
            return round(self.log_s * 1_000_000)
        return round((NOON_S + at_s) * 1_000_000)


def rows_of(engine: Engine, *, without: Sequence[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables that a replay must bring back, sorted; columns in `without` are left out."""
    rows = {}
    with engine.connect() as connection:
        for table in (
            tables.generations,
            tables.feedback,
            tables.mentions,
            tables.conflicts,
            tables.examples,
            tables.example_subjects,
            tables.removals,
            tables.prompts,
        ):
            columns = [column for column in table.c if column.name not in without]
            found = connection.execute(select(*columns)).all()
            rows[table.name] = sorted((tuple(row) for row in found), key=repr)
    return rows
