"""Matches feedback with generations: pure logic, one entry after another, no I/O.

A `Matcher` starts from what the database knows of a batch of entries (`Known`) and plays the entries in order; what
must be written stands in its `Changes`. The meaning is that of one entry at a time, so a batch may be cut anywhere.

Where an event ends up depends on the feedback log and on the set of generations alone, never on which of the two was
read first. The rules, the first that holds:

1. its person was erased: ERASED;
2. its id stands in the log already: a duplicate (same body, counts once) or a conflict (BODY_DIFFERS);
3. a later event carries the same opinion key: SUPERSEDED, and its example is removed;
4. a generation it names belongs to an erased person: ERASED;
5. a generation it names is unknown: PENDING, and EXPIRED once `pending_ttl_us` of log time have passed;
6. a generation has no such completion, or the prompts differ: CONFLICT;
7. otherwise JOINED, and it becomes an example: a function of the event, its generations and the log's clock only.

A generation counts for an event when it was recorded at most `pending_ttl_us` after it and at most
`generation_retention_us` before it, so that the hour at which old rows are swept changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from attune.domain.feedback import FeedbackState
from attune.feedback.join.rows import (
    ConflictRow,
    Entry,
    ExampleRow,
    FeedbackEntry,
    FeedbackRow,
    GenerationEntry,
    GenerationRow,
    Key,
    Limits,
    Place,
    PromptRow,
    Removal,
    Said,
    SetAside,
    as_accepted,
    disagreement,
    erased_row,
    example_row,
    feedback_row,
    is_in_reach,
    is_repeated,
    prompt_row,
    stored,
    tombstone,
)


@dataclass
class Known:
    """What the database holds that a batch may touch.

    `waiting` lists, for a generation that the batch brings, the events that may change with it.
    """

    generations: dict[Key, GenerationRow] = field(default_factory=dict)
    feedback: dict[Key, FeedbackRow] = field(default_factory=dict)
    newest: dict[bytes, Key] = field(default_factory=dict)
    waiting: dict[Key, list[Key]] = field(default_factory=dict)
    prompts: dict[bytes, int] = field(default_factory=dict)
    erased: set[tuple[str, str]] = field(default_factory=set)
    last_example: int = 0
    last_prompt: int = 0


@dataclass
class Changes:
    """What a batch writes. Feedback rows are keyed: the last state of each counts.

    `mentions` gives the generations that an event names, and none if those are no longer to be noted.
    """

    generations: list[GenerationRow] = field(default_factory=list)
    new_feedback: dict[Key, FeedbackRow] = field(default_factory=dict)
    changed_feedback: dict[Key, FeedbackRow] = field(default_factory=dict)
    mentions: dict[Key, tuple[Key, ...]] = field(default_factory=dict)
    conflicts: list[ConflictRow] = field(default_factory=list)
    examples: dict[int, ExampleRow] = field(default_factory=dict)
    removals: list[tuple[int, Removal]] = field(default_factory=list)
    prompts: dict[bytes, PromptRow] = field(default_factory=dict)
    set_aside: list[SetAside] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    delays_us: list[int] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)


class Matcher:
    """Plays the entries of a batch. `known` is updated as it goes; `changes` collects what to write."""

    def __init__(self, known: Known, limits: Limits, feedback_topic: str) -> None:
        self.known = known
        self.limits = limits
        self.feedback_topic = feedback_topic
        self.changes = Changes()

    def play(self, entry: Entry) -> None:
        if isinstance(entry, GenerationEntry):
            self._generation(entry)
        else:
            self._feedback(entry)

    # Generations

    def _generation(self, entry: GenerationEntry) -> None:
        row = entry.row
        before = self.known.generations.get(row.key)
        if before is not None:
            self._repeated_generation(entry, before)
            return
        if (row.key.app_id, row.subject_id) in self.known.erased:
            row = tombstone(row)
        self.known.generations[row.key] = row
        self.changes.generations.append(row)
        self.changes.results["generation_erased" if row.is_erased else "generation"] += 1
        if not row.is_erased:
            self._note_prompt(entry)
            self.changes.revisions.setdefault(entry.generation.revision, row.record_us)
        waiting = (self.known.feedback[event] for event in self.known.waiting.get(row.key, ()))
        for event in sorted(waiting, key=lambda event: event.place):
            self._look_again(event, row)

    def _repeated_generation(self, entry: GenerationEntry, before: GenerationRow) -> None:
        row = entry.row
        if before.is_erased or is_repeated(row, before):
            self.changes.results["generation_duplicate"] += 1
            return
        detail = f"generation {entry.generation.id} stands in the log already with other content"
        value = entry.generation.SerializeToString()
        self._set_aside(entry.topic, entry.place, "GENERATION_ID_REUSED", detail, value)

    def _note_prompt(self, entry: GenerationEntry) -> None:
        """Keeps the most recent distinct prompts: a window over their order of arrival."""
        known, oldest_kept = self.known, self.known.last_prompt - self.limits.prompt_capacity + 1
        prompt_hash = entry.row.prompt_hash
        if known.prompts.get(prompt_hash, 0) >= max(oldest_kept, 1):
            return
        known.last_prompt += 1
        known.prompts[prompt_hash] = known.last_prompt
        self.changes.prompts[prompt_hash] = prompt_row(known.last_prompt, entry)

    # Feedback

    def _feedback(self, entry: FeedbackEntry) -> None:
        if (entry.key.app_id, entry.subject_id) in self.known.erased:
            self._erased_event(entry)
            return
        before = self.known.feedback.get(entry.key)
        if before is not None:
            self._repeated_event(entry, before)
            return
        row, said = feedback_row(entry), entry.said
        if any(self._is_tombstone(key) for key in said.generations):
            row.body = b""
        if self._is_newest(row):
            self._judge(row, said)
        self._add(row, said.generations)

    def _erased_event(self, entry: FeedbackEntry) -> None:
        if entry.key in self.known.feedback:
            self.changes.results["erased"] += 1
        else:
            self._add(erased_row(entry), ())

    def _repeated_event(self, entry: FeedbackEntry, before: FeedbackRow) -> None:
        if entry.body_hash == before.body_hash:
            self.changes.results["duplicate"] += 1
            return
        conflict = ConflictRow(entry.topic, entry.place, entry.key, entry.subject_id, entry.body_hash)
        self.changes.conflicts.append(conflict)
        self.changes.results["conflict"] += 1
        detail = f"event {entry.said.event.event_id} stands in the log already with another body"
        self._set_aside(entry.topic, entry.place, "BODY_DIFFERS", detail, as_accepted(entry.said, entry.accept_us))

    def _is_newest(self, row: FeedbackRow) -> bool:
        """Settles which of two events with one opinion key counts; the other becomes SUPERSEDED."""
        earlier = self.known.newest.get(row.opinion_key)
        if earlier is not None and self.known.feedback[earlier].place > row.place:
            # Only with several partitions: the later opinion was read first.
            row.state, row.reason = FeedbackState.SUPERSEDED, "NEWER_OPINION"
            return False
        self.known.newest[row.opinion_key] = row.key
        if earlier is not None:
            self._supersede(self.known.feedback[earlier])
        return True

    def _supersede(self, row: FeedbackRow) -> None:
        if row.state is FeedbackState.JOINED:
            # An example of this very batch was never visible, but it had its number and has its removal all the
            # same: what readers see must not depend on where batches were cut.
            self.changes.examples.pop(row.example_sequence, None)
            self.changes.removals.append((row.example_sequence, Removal.SUPERSEDED))
            self.changes.mentions[row.key] = stored(row).generations
        row.state, row.reason = FeedbackState.SUPERSEDED, "NEWER_OPINION"
        self._changed(row)
        self.changes.results["superseded"] += 1

    def _look_again(self, row: FeedbackRow, arrived: GenerationRow) -> None:
        """A generation that an event names has come."""
        before = row.state
        if before is FeedbackState.PENDING:
            if arrived.is_erased and is_in_reach(arrived.record_us, row.place.log_us, self.limits):
                row.state, row.reason = FeedbackState.ERASED, "GENERATION_ERASED"
            elif row.body:
                self._judge(row, stored(row))
        if arrived.is_erased:
            row.body = b""  # An answer in other words may repeat the erased person's.
        if row.state is not before:
            self.changes.results[row.state.name.lower()] += 1
        if not row.is_mentioned:
            self.changes.mentions[row.key] = ()
        if row.state is not before or arrived.is_erased:
            self._changed(row)

    def _judge(self, row: FeedbackRow, said: Said) -> None:
        """Rules 4 to 7 of the module."""
        found = {key: g for key in said.generations if (g := self._counting(key, row.place.log_us)) is not None}
        if any(g.is_erased for g in found.values()):
            row.state, row.reason = FeedbackState.ERASED, "GENERATION_ERASED"
        elif len(found) < len(said.generations):
            row.state, row.reason = FeedbackState.PENDING, "GENERATION_UNKNOWN"
        elif reason := disagreement(said, found):
            row.state, row.reason = FeedbackState.CONFLICT, reason
            detail = f"event {said.event.event_id} names completions that make no example"
            self._set_aside(self.feedback_topic, row.place, reason, detail, as_accepted(said, row.accept_us))
        else:
            self._join(row, said, found)

    def _counting(self, key: Key, event_us: int) -> GenerationRow | None:
        row = self.known.generations.get(key)
        return row if row is not None and is_in_reach(row.record_us, event_us, self.limits) else None

    def _is_tombstone(self, key: Key) -> bool:
        row = self.known.generations.get(key)
        return row is not None and row.is_erased

    def _join(self, row: FeedbackRow, said: Said, generations: dict[Key, GenerationRow]) -> None:
        self.known.last_example += 1
        example = example_row(self.known.last_example, row, said, generations)
        row.state, row.reason, row.example_sequence = FeedbackState.JOINED, "", example.sequence
        self.changes.examples[example.sequence] = example
        self.changes.delays_us.append(abs(example.accept_us - example.generation_us))

    # Bookkeeping

    def _add(self, row: FeedbackRow, named: tuple[Key, ...]) -> None:
        self.known.feedback[row.key] = row
        self.changes.new_feedback[row.key] = row
        self.changes.results[row.state.name.lower()] += 1
        if not row.is_mentioned:
            return
        self.changes.mentions[row.key] = named
        for generation in named:
            if generation not in self.known.generations:
                self.known.waiting.setdefault(generation, []).append(row.key)

    def _changed(self, row: FeedbackRow) -> None:
        if row.key not in self.changes.new_feedback:
            self.changes.changed_feedback[row.key] = row

    def _set_aside(self, topic: str, place: Place, reason: str, detail: str, value: bytes) -> None:
        self.changes.set_aside.append(SetAside(topic, place, reason, detail, value))
