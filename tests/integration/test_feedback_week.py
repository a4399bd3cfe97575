"""Seven days of log time: feedback before, with and long after its generation, sent twice, changed, and for nothing.

`Week` writes the traffic story by story, and each story says what must become of its events. The log has three
partitions a topic; the join reads at odd times and is down for half a day; a person is erased on the fifth day. Two
days later nothing may wait any more: all that can be joined is an example, and of the rest it is known what it is.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from attune.api.events.v1 import events_pb2
from attune.domain.feedback import AcceptedFeedback, Comparison, Feedback, FeedbackEvent, FeedbackState, Rating
from attune.domain.ids import uuid_bytes
from attune.feedback.join import tables
from attune.feedback.join.config import JoinSettings
from attune.feedback.join.consumer import JoinConsumer
from attune.feedback.join.dead_letters import read_letters
from attune.feedback.join.erasure import erase_subject
from attune.feedback.join.metrics import JoinMetrics
from attune.feedback.join.reading import Reader
from attune.feedback.join.replay import Replay
from attune.feedback.join.store import Store
from attune.feedback.join.tail import Tail
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from feedback_samples import APP, NOON_S, a_generation, an_event, completion
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, select

HOUR_S, DAY_S = 3600.0, 86_400.0
STEP_S, WEEK_S, END_S = HOUR_S / 6, 7 * DAY_S, 9 * DAY_S
DOWN_S = (3.25 * DAY_S, 3.75 * DAY_S)
ERASED_AT_S = 5 * DAY_S
STORIES = 1500
SECOND = 100_000
"""Added to the number of a generation for that of another."""
SETTINGS = JoinSettings()


class Week:
    """The traffic. `due` holds what is appended when; `states` and `letters` what must become of it."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.due: list[tuple[float, Topic, bytes]] = []
        self.states: dict[str, FeedbackState] = {}
        self.letters: Counter[str] = Counter()
        self.entries = self.repeated = self.refused = 0
        kinds = [self.joins, self.comes_first, self.comes_too_early, self.lost, self.changes, self.comes_twice]
        kinds += [self.contradicts_itself, self.names_no_completion, self.compares_two_prompts, self.is_refused]
        for number in range(1, STORIES + 1):
            self._dice.choice([self.joins, *kinds])(number, self._dice.uniform(0, WEEK_S - DAY_S))
        self.due.sort(key=lambda item: item[0])

    def joins(self, number: int, at_s: float) -> None:
        """With its generation, an hour later or up to days later; one person in twenty is erased."""
        asked, says = (self._dice.choice(["eve", *["ann"] * 19]) for _ in range(2))
        self._generation(number, at_s, subject_id=asked)
        later_s = self._dice.choice([0, self._dice.uniform(0, HOUR_S), self._dice.uniform(0, WEEK_S - at_s)])
        state = FeedbackState.ERASED if "eve" in (asked, says) else FeedbackState.JOINED
        self._event(number, at_s + later_s, state, subject_id=says)

    def comes_first(self, number: int, at_s: float) -> None:
        self._event(number, at_s, FeedbackState.JOINED)
        self._generation(number, at_s + self._dice.uniform(0, 23 * HOUR_S))

    def comes_too_early(self, number: int, at_s: float) -> None:
        self._event(number, at_s, FeedbackState.EXPIRED)
        self._generation(number, at_s + self._dice.uniform(25 * HOUR_S, 40 * HOUR_S))

    def lost(self, number: int, at_s: float) -> None:
        """Its generation was served without being recorded."""
        self._event(number, at_s, FeedbackState.EXPIRED)

    def changes(self, number: int, at_s: float) -> None:
        """Twice, and the first opinion may be uttered before the generation is there."""
        self._generation(number, at_s + self._dice.choice([0, 2 * HOUR_S]))
        self._event(number, at_s, FeedbackState.SUPERSEDED)
        self._event(number + SECOND, at_s + HOUR_S, FeedbackState.SUPERSEDED, Rating(completion(number), 0.5))
        last_s = self._dice.uniform(at_s + 2 * HOUR_S, WEEK_S)
        self._event(number + 2 * SECOND, last_s, FeedbackState.JOINED, Rating(completion(number), 0.0))

    def comes_twice(self, number: int, at_s: float) -> None:
        self._generation(number, at_s)
        event = self._event(number, at_s, FeedbackState.JOINED)
        for _ in range(self._dice.randint(1, 2)):
            self._append(self._dice.uniform(at_s + STEP_S, WEEK_S), event)
            self.repeated += 1

    def contradicts_itself(self, number: int, at_s: float) -> None:
        self._generation(number, at_s)
        event = self._event(number, at_s, FeedbackState.JOINED)
        other = replace(event, feedback=Rating(completion(number), 0.0))
        self._append(self._dice.uniform(at_s + STEP_S, WEEK_S), other)
        self.refused += 1
        self.letters["BODY_DIFFERS"] += 1

    def names_no_completion(self, number: int, at_s: float) -> None:
        self._generation(number, at_s + self._dice.choice([0, HOUR_S]))
        self._event(number, at_s, FeedbackState.CONFLICT, Rating(completion(number, 7), 1.0))
        self.letters["COMPLETION_UNKNOWN"] += 1

    def compares_two_prompts(self, number: int, at_s: float) -> None:
        for other, prompt in ((number, "who are you?"), (number + SECOND, "where is it?")):
            self._generation(other, at_s + self._dice.uniform(0, HOUR_S), prompt=prompt)
        compared = Comparison(completion(number), completion(number + SECOND))
        self._event(number, at_s, FeedbackState.CONFLICT, compared)
        self.letters["PROMPTS_DIFFER"] += 1

    def is_refused(self, number: int, at_s: float) -> None:
        """Another program writes to the topic: bytes that are no record, and an event that no door would let in."""
        self.due.append((at_s, Topic.FEEDBACK, b"\xff\xff\xff"))
        broken = AcceptedFeedback(an_event(number), NOON_S).to_proto()
        broken.event.rating.value = 1.5
        self.due.append((at_s, Topic.FEEDBACK, events_pb2.FeedbackBatch(events=[broken]).SerializeToString()))
        self.letters.update(["RECORD_GARBLED", "ENTRY_INVALID"])

    def _generation(self, number: int, at_s: float, **values: str) -> None:
        batch = events_pb2.GenerationBatch(generations=[a_generation(number, **values).to_proto()])  # type: ignore[arg-type]
        self.due.append((at_s, Topic.GENERATIONS, batch.SerializeToString()))

    def _event(
        self, number: int, at_s: float, state: FeedbackState, said: Feedback | None = None, subject_id: str = "bob"
    ) -> FeedbackEvent:
        """An event, by default a thumb up, and the state that it must end in."""
        event = an_event(number, said or Rating(completion(number), 1.0), subject_id=subject_id)
        self.states[event.event_id] = state
        self._append(at_s, event)
        return event

    def _append(self, at_s: float, event: FeedbackEvent) -> None:
        self.entries += 1
        batch = events_pb2.FeedbackBatch(events=[AcceptedFeedback(event, NOON_S + at_s).to_proto()])
        self.due.append((at_s, Topic.FEEDBACK, batch.SerializeToString()))


class World:
    """The log, the join, and their time."""

    def __init__(self, engine: Engine, week: Week) -> None:
        self.now_s = 0.0
        self.engine, self._week = engine, week
        self.log = MemoryEventLog(partitions=3, clock=self._clock)
        self._producers = {topic: self.log.producer(topic) for topic in (Topic.GENERATIONS, Topic.FEEDBACK)}
        self.store = Store(engine, SETTINGS.limits(), Topic.FEEDBACK)
        self.metrics = CollectorRegistry()
        self._join = JoinConsumer(
            self.store,
            Tail({topic: self.log.consumer(topic) for topic in self._producers}, self.store.offset, clock=self._clock),
            self.log.producer(Topic.DEAD_LETTERS),
            JoinMetrics(self.metrics),
            feedback_retention_s=SETTINGS.feedback_retention_s,
            clock=self._clock,
        )

    def pass_by(self, dice: random.Random) -> None:
        """All nine days, the last two without traffic."""
        due, erased = list(reversed(self._week.due)), False
        while self.now_s < END_S:
            self.now_s += STEP_S
            while due and due[-1][0] <= self.now_s:
                _, topic, value = due.pop()
                self._producers[topic].append([value])
            if dice.random() < 0.2 and not DOWN_S[0] < self.now_s < DOWN_S[1]:
                self._read()
            if self.now_s >= ERASED_AT_S and not erased:
                erase_subject(self.engine, self.store.erased, SETTINGS.limits(), APP, "eve", 1)
                erased = True
        self._read()

    def count(self, result: str) -> float:
        return self.metrics.get_sample_value("attune_join_events_total", {"result": result}) or 0.0

    def _read(self) -> None:
        while self._join.step():
            pass
        self._join.sweep()

    def _clock(self) -> float:
        return NOON_S + self.now_s


def test_a_week_of_feedback_ends_where_it_must(new_engine: Callable[[str], Engine]) -> None:
    week = Week(seed=3)
    world = World(new_engine("live"), week)
    world.pass_by(random.Random(4))
    assert set(week.states.values()) == set(FeedbackState) - {FeedbackState.ACCEPTED, FeedbackState.PENDING}
    assert states_in(world.engine) == {uuid_bytes(name): state for name, state in week.states.items()}
    joinable = sorted(uuid_bytes(name) for name, state in week.states.items() if state is FeedbackState.JOINED)
    assert examples_in(world.engine) == joinable

    counts = Reader(world.engine).state_counts()
    assert counts == Counter(week.states.values()) + Counter({FeedbackState.CONFLICT: week.refused})
    assert sum(counts.values()) + week.repeated == week.entries
    assert (world.count("conflict"), world.count("duplicate")) == (counts[FeedbackState.CONFLICT], week.repeated)
    letters = list(read_letters(world.log))
    assert Counter(letter.reason for letter in letters) == week.letters

    replayed = Replay(
        world.log, world.engine, new_engine("fresh"), SETTINGS.limits(), SETTINGS.feedback_retention_s, lambda *_: None
    ).run()
    assert (replayed.live, replayed.differences, replayed.out_of_log) == (len(joinable), 0, 0)


def states_in(engine: Engine) -> dict[bytes, FeedbackState]:
    with engine.connect() as connection:
        rows = connection.execute(select(tables.feedback.c.event_id, tables.feedback.c.state))
        return {row.event_id: FeedbackState(row.state) for row in rows}


def examples_in(engine: Engine) -> list[bytes]:
    with engine.connect() as connection:
        return sorted(connection.execute(select(tables.examples.c.event_id)).scalars())
