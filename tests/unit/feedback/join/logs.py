"""Logs drawn at random: generations and events that join, wait, repeat, contradict each other and come too late."""

from __future__ import annotations

import random
from collections.abc import Sequence

from attune.domain.feedback import Comparison, Demonstration, Feedback, Rating
from attune.feedback.join.rows import Entry, FeedbackEntry, GenerationEntry
from feedback_samples import Script, a_generation, a_ranking, an_event, completion


def a_feedback(dice: random.Random) -> Feedback:
    names = [completion(dice.randint(1, 4), dice.randint(0, 2)) for _ in range(3)]
    pair = list(dict.fromkeys(names))
    kind = dice.choice(["rating", "demonstration", "comparison", "ranking"] if len(pair) > 1 else ["rating"])
    match kind:
        case "rating":
            return Rating(names[0], dice.choice([0.0, 0.5, 1.0]))
        case "demonstration":
            return Demonstration(names[0], dice.choice(["better", "best"]))
        case "comparison":
            return Comparison(pair[0], pair[1])
        case _:
            return a_ranking(*pair)


def a_log(dice: random.Random, length: int) -> list[Entry]:
    """Generations and events in log order, some repeated, some contradicting, some too late for each other."""
    script = Script()
    entries: list[Entry] = []
    for _ in range(length):
        script.log_s += dice.choice([0, 0, 1, 40, 300])
        if dice.random() < 0.4:
            number = dice.randint(1, 4)
            prompt = "one prompt" if number < 4 else "another"
            subject = dice.choice(["ann", "bob"])
            entries.append(script.generation(a_generation(number, prompt=prompt, subject_id=subject)))
        else:
            subject = dice.choice(["ann", "bob", "eve"])
            entries.append(script.event(an_event(dice.randint(1, 8), a_feedback(dice), subject_id=subject)))
    return entries


def in_another_order(log: Sequence[Entry], dice: random.Random) -> list[Entry]:
    """The two topics of a log interleaved in another way, each in its own order."""
    topics = [[e for e in log if isinstance(e, kind)] for kind in (GenerationEntry, FeedbackEntry)]
    turns = [0] * len(topics[0]) + [1] * len(topics[1])
    dice.shuffle(turns)
    rest = [iter(topic) for topic in topics]
    return [next(rest[turn]) for turn in turns]
