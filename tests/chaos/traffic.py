"""What people say while things break: generations with events about them, made one conversation after another.

Most generations stand on the log before anybody speaks about them, some come later, and a few never do. One event in
25 changes a mind: a later opinion of the same person about the same completions, under an id of its own. Of events that
were acknowledged one in twenty is sent again as it was, and one in a hundred with another body under its id.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from enum import Enum

from attune.api.types.v1 import generations_pb2, prompts_pb2
from attune.client import Comparison, Demonstration, FeedbackEvent, Ranking, Rating, new_event
from attune.domain.feedback import Feedback
from attune.domain.ids import uuid7

APP = "shop"
PEOPLE, PROMPTS = 50_000, 5_000
SPOKEN = 5
LATE, NEVER, CHANGED = 0.15, 0.03, 0.04
REPEATED, CONTRADICTED = 0.05, 0.01
REVISION = "policies/support/revisions/1"
ANSWER = "Your order left our house this morning and will be with you by Friday."


class Recorded(Enum):
    """When a generation is written to the log."""

    FIRST = "before its feedback"
    LATER = "after its feedback"
    NEVER = "never"


@dataclass(frozen=True)
class Conversation:
    """A generation and what is said about it."""

    generation: generations_pb2.Generation
    recorded: Recorded
    events: tuple[FeedbackEvent, ...]


class Traffic:
    """Draws conversations. The ids differ from run to run; everything else follows the dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def conversation(self) -> Conversation:
        generation = self._generation()
        names = [completion.id for completion in generation.completions]
        said = [new_event(APP, self._feedback(names), subject_id=self._person(), source="chaos") for _ in range(SPOKEN)]
        return Conversation(generation, self._recorded(), (*said, *self._changes(said)))

    def again(self, event: FeedbackEvent) -> FeedbackEvent | None:
        """What is sent once more after an event was acknowledged, if anything: itself, or another body of its id."""
        luck = self._dice.random()
        if luck < CONTRADICTED:
            return replace(event, source="contradiction")
        return event if luck < CONTRADICTED + REPEATED else None

    def _recorded(self) -> Recorded:
        luck = self._dice.random()
        if luck < NEVER:
            return Recorded.NEVER
        return Recorded.LATER if luck < NEVER + LATE else Recorded.FIRST

    def _generation(self) -> generations_pb2.Generation:
        name = uuid7()
        text = f"Where is order {self._dice.randrange(PROMPTS)}?"
        completions = [
            generations_pb2.Completion(
                id=f"{name}/{index}",
                text=f"{ANSWER} {self._dice.randrange(1000)}",
                token_ids=[5, 6, 2],
                logprobs=[-0.5, -0.25, -1.0],
                finish_reason=generations_pb2.FINISH_REASON_EOS,
                spans=[generations_pb2.RevisionSpan(revision=REVISION, tokens=3)],
            )
            for index in range(2)
        ]
        generation = generations_pb2.Generation(
            id=name,
            app_id=APP,
            subject_id=self._person(),
            prompt=prompts_pb2.Prompt(
                conversation=prompts_pb2.Conversation(messages=[prompts_pb2.Message(role="user", content=text)])
            ),
            prompt_token_ids=[1, 2, 3],
            completions=completions,
            revision=REVISION,
            purpose=generations_pb2.PURPOSE_USER,
        )
        generation.create_time.FromSeconds(int(time.time()))
        return generation

    def _person(self) -> str:
        return f"person-{self._dice.randrange(PEOPLE)}"

    def _feedback(self, names: list[str]) -> Feedback:
        first, second = self._dice.sample(names, 2)
        luck = self._dice.random()
        if luck < 0.5:
            return Rating(first, float(luck < 0.25))
        if luck < 0.7:
            return Comparison(first, second)
        if luck < 0.85:
            return Ranking(((first,), (second,)))
        return Demonstration(first, f"{ANSWER} Sorry for the wait.")

    def _changes(self, said: list[FeedbackEvent]) -> list[FeedbackEvent]:
        """Later events by people who think otherwise by then."""
        ratings = [event for event in said if isinstance(event.feedback, Rating)]
        return [
            replace(event, event_id=uuid7(), feedback=Rating(event.feedback.completion_id, 1 - event.feedback.value))
            for event in ratings
            if self._dice.random() < CHANGED * 2  # half of all events are ratings
        ]
