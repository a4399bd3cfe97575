"""What becomes of requests, counted: by door, kind of damage and status; and which of it must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass
class Verdicts:
    """`wrong` holds a description of each answer that was not among those expected, the first few of them."""

    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrong_answers: int = 0
    acknowledged: set[str] = field(default_factory=set)

    def judge(self, door: str, damage: str, answer: str, expected: Collection[str], sent: object) -> None:
        self.answers[door, damage, answer] += 1
        if answer not in expected:
            self.wrong_answers += 1
            if len(self.wrong) < 20:
                self.wrong.append(f"{door}, {damage}: {answer} instead of {'/'.join(sorted(expected))}: {sent!r:.400}")

    def acknowledge(self, event_ids: Iterable[str]) -> None:
        """Ids of events that were said to be stored; an empty one is no receipt."""
        self.acknowledged.update(filter(None, event_ids))

    @property
    def requests(self) -> int:
        return self.answers.total()

    def table(self) -> str:
        rows = [f"{'door':6}{'damage':28}{'answer':22}{'requests':>9}"]
        rows += [f"{door:6}{damage:28}{answer:22}{n:9,}" for (door, damage, answer), n in sorted(self.answers.items())]
        return "\n".join(rows)
