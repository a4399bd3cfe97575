"""Simulated users: what they do with the completions they are shown. Pure behaviour; another file sends it.

A population has users `user-0001`, … whose habits follow from their id and the seed: most rank, some only give thumbs,
some write what the answer should have been; each is more or less decided. Their taste is one standardised judge.
Noise is Plackett–Luce (Gumbel noise on the scores, by temperature), and a share of plain mistakes on top. Feedback may
come late, twice (the same event id), or never. Controls: `shuffled` (no action carries any signal), one subject whose
share of the feedback is inverted, and a taste that turns around on demand. All randomness comes from the seed and the
`random.Random` that is passed in.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from attune.simulation import grammar
from attune.simulation.taste import Standardised

CORRECTION_DRAFTS = 8
"""Grammar answers among which a correction is picked."""


class Habit(StrEnum):
    """What a user does when shown completions."""

    RANKS = "ranks"
    THUMBS = "thumbs"
    CORRECTS = "corrects"


@dataclass(frozen=True)
class Shown:
    """A completion as the user sees it."""

    completion_id: str
    text: str


@dataclass(frozen=True)
class RankingAction:
    """Completion ids from best to worst; those of one group are equally good."""

    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ThumbAction:
    """Thumb up (1.0) or down (0.0) on one completion."""

    completion_id: str
    rating: float


@dataclass(frozen=True)
class CorrectionAction:
    """What one completion should have been."""

    completion_id: str
    text: str


Action = RankingAction | ThumbAction | CorrectionAction


@dataclass(frozen=True)
class Reaction:
    """What one user did about one generation, and how it is sent."""

    subject_id: str
    event_id: str
    action: Action
    delay_s: float
    times_sent: int
    """0: never; 2: the same event twice."""
    is_mistake: bool


@dataclass(frozen=True)
class User:
    """One person; `temperature` is in standard deviations of the entering policy's scores."""

    subject_id: str
    habit: Habit
    temperature: float
    is_inverted: bool = False


@dataclass(frozen=True)
class Customs:
    """How a population behaves; rates and shares are in [0, 1], times in seconds."""

    thumbs_share: float = 0.20
    corrects_share: float = 0.12
    mistake_rate: float = 0.10
    temperatures: tuple[float, float] = (0.15, 0.45)
    tie_width: float = 0.05
    """Scores nearer than this, in standard deviations, are ranked as equal."""
    reading_s: tuple[float, float] = (0.0, 0.5)
    late_rate: float = 0.08
    late_s: tuple[float, float] = (3.0, 12.0)
    twice_rate: float = 0.05
    never_rate: float = 0.05
    is_shuffled: bool = False
    inverted_subject_share: float = 0.0


class Population:
    """The users of one run, their taste, and what they do."""

    def __init__(self, judge: Standardised, seed: int, size: int = 100, customs: Customs | None = None) -> None:
        if size < 1:
            raise ValueError("a population has at least one user")
        self.customs = customs or Customs()
        self._judge = judge
        self._is_turned = False
        self.users = tuple(self._born(f"user-{i:04d}", seed) for i in range(1, size + 1))
        # The hostile subject stands beside the others, so that the same seed gives the same people with and without.
        self.inverted = self._born(f"user-{size + 1:04d}", seed, is_inverted=True)

    def turn_around(self) -> None:
        """From now on everyone likes what they disliked; a second call turns back."""
        self._is_turned = not self._is_turned

    def visitor(self, rng: random.Random) -> User:
        """Who comes next."""
        if rng.random() < self.customs.inverted_subject_share:
            return self.inverted
        return rng.choice(self.users)

    def react(self, user: User, prompt: str, shown: Sequence[Shown], rng: random.Random) -> Reaction:
        """What `user` does about completions of one prompt; ValueError when there are none."""
        if not shown:
            raise ValueError("a user reacts to at least one completion")
        is_mistake = rng.random() < self.customs.mistake_rate
        act = self._act_at_random if self.customs.is_shuffled else self._act
        action = act(user, prompt, shown, is_mistake, rng)
        is_late = rng.random() < self.customs.late_rate
        delay_s = rng.uniform(*(self.customs.late_s if is_late else self.customs.reading_s))
        event_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        return Reaction(user.subject_id, event_id, action, delay_s, self._times_sent(rng), is_mistake)

    def liking(self, user: User, prompt: str, text: str) -> float:
        """How much a user likes an answer: standard deviations above the entering policy's median."""
        above = self._judge(prompt, text) - self._judge.standardised_median
        return -above if user.is_inverted != self._is_turned else above

    def _born(self, subject_id: str, seed: int, is_inverted: bool = False) -> User:
        own = random.Random(f"{seed}/{subject_id}")
        shares = {Habit.THUMBS: self.customs.thumbs_share, Habit.CORRECTS: self.customs.corrects_share}
        shares[Habit.RANKS] = max(1.0 - sum(shares.values()), 0.0)
        habit = own.choices(list(shares), list(shares.values()))[0]
        return User(subject_id, habit, own.uniform(*self.customs.temperatures), is_inverted)

    def _act(self, user: User, prompt: str, shown: Sequence[Shown], is_mistake: bool, rng: random.Random) -> Action:
        likings = [self.liking(user, prompt, one.text) for one in shown]
        if user.habit is Habit.CORRECTS:
            correction = self._correction(user, prompt, shown, likings, is_mistake, rng)
            if correction is not None:
                return correction
        if user.habit is Habit.THUMBS or len(shown) == 1:
            i = rng.randrange(len(shown))
            is_up = rng.random() < _sigmoid(likings[i] / user.temperature)
            return ThumbAction(shown[i].completion_id, float(is_up != is_mistake))
        if is_mistake:
            return _random_ranking(shown, rng)
        return _noisy_ranking(shown, likings, user.temperature, self.customs.tie_width, rng)

    def _correction(
        self,
        user: User,
        prompt: str,
        shown: Sequence[Shown],
        likings: Sequence[float],
        is_mistake: bool,
        rng: random.Random,
    ) -> CorrectionAction | None:
        """The best of several drafts in place of what is liked least; None when none is better or can be written."""
        case = grammar.read_prompt(prompt)
        if case is None:
            return None
        drafts = grammar.answers(case, rng, CORRECTION_DRAFTS)
        worst = min(range(len(shown)), key=lambda i: likings[i])
        if is_mistake:
            return CorrectionAction(shown[worst].completion_id, rng.choice(drafts))
        best = max(drafts, key=lambda draft: self.liking(user, prompt, draft))
        if self.liking(user, prompt, best) <= likings[worst]:
            return None
        return CorrectionAction(shown[worst].completion_id, best)

    def _act_at_random(
        self, user: User, prompt: str, shown: Sequence[Shown], is_mistake: bool, rng: random.Random
    ) -> Action:
        """The control. A correction is another shown completion, since a grammar answer would be a signal by itself."""
        one = rng.choice(shown)
        if user.habit is Habit.THUMBS or len(shown) == 1:
            return ThumbAction(one.completion_id, float(rng.random() < 0.5))
        others = [other.text for other in shown if other.text != one.text]
        is_written = all(other.text.strip() for other in shown)  # else the blank ones could only be corrected
        if user.habit is Habit.CORRECTS and others and is_written:
            return CorrectionAction(one.completion_id, rng.choice(others))
        return _random_ranking(shown, rng)

    def _times_sent(self, rng: random.Random) -> int:
        customs = self.customs
        rest = 1.0 - customs.never_rate - customs.twice_rate
        return rng.choices((0, 1, 2), (customs.never_rate, rest, customs.twice_rate))[0]


def _noisy_ranking(
    shown: Sequence[Shown], likings: Sequence[float], temperature: float, tie_width: float, rng: random.Random
) -> RankingAction:
    """A draw of Plackett–Luce: sort by liking / temperature plus Gumbel noise (Yellott, 1977).

    Neighbours whose likings lie within `tie_width` are one group; the group is measured from its first, so that a long
    chain of small steps does not become one tie.
    """
    noisy = [liking / temperature + _gumbel(rng) for liking in likings]
    order = sorted(range(len(shown)), key=lambda i: -noisy[i])
    groups: list[list[int]] = []
    for i in order:
        if groups and abs(likings[groups[-1][0]] - likings[i]) < tie_width:
            groups[-1].append(i)
        else:
            groups.append([i])
    return RankingAction(tuple(tuple(shown[i].completion_id for i in group) for group in groups))


def _random_ranking(shown: Sequence[Shown], rng: random.Random) -> RankingAction:
    order = rng.sample(list(shown), len(shown))
    return RankingAction(tuple((one.completion_id,) for one in order))


def _gumbel(rng: random.Random) -> float:
    return -math.log(-math.log(max(rng.random(), 1e-300)))


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(x / 2))
