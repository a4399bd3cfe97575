"""Simulated users: reproducible, as noisy as they are set to be, and without signal when shuffled."""

from __future__ import annotations

import random
import statistics
import uuid
from collections import Counter

import pytest
from attune.simulation import grammar
from attune.simulation.judge import score
from attune.simulation.taste import Standardised
from attune.simulation.users import (
    CorrectionAction,
    Customs,
    Habit,
    Population,
    RankingAction,
    Reaction,
    Shown,
    ThumbAction,
    User,
)

PLAIN = Customs(mistake_rate=0.0, temperatures=(0.01, 0.01), tie_width=0.0)
BY_NUMBER = Standardised(lambda prompt, text: float(text), mean=0.0, std=1.0, median=0.0)
TRUE = Standardised(score, mean=1.0, std=1.8, median=1.2)


def number_shown(rng: random.Random, n: int = 4) -> list[Shown]:
    return [Shown(f"c{i}", repr(rng.gauss(0, 1))) for i in range(n)]


def someone(habit: Habit, temperature: float = 0.01) -> User:
    return User("user-0001", habit, temperature)


def true_order(shown: list[Shown]) -> list[str]:
    return [one.completion_id for one in sorted(shown, key=lambda one: -float(one.text))]


def flat(reaction: Reaction) -> list[str]:
    assert isinstance(reaction.action, RankingAction)
    return [c for group in reaction.action.groups for c in group]


def test_people_follow_from_id_and_seed() -> None:
    first, again, other = (Population(BY_NUMBER, seed, size=50).users for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert first[:20] == Population(BY_NUMBER, 1, size=20).users
    assert first[0].subject_id == "user-0001"
    assert {user.habit for user in first} == set(Habit)


def test_same_seed_same_reactions() -> None:
    def life(seed: int) -> list[Reaction]:
        rng = random.Random(seed)
        population = Population(BY_NUMBER, seed=1)
        return [population.react(population.visitor(rng), "prompt", number_shown(rng), rng) for _ in range(100)]

    assert life(3) == life(3)
    assert life(3) != life(4)


def test_cold_users_rank_as_the_judge_does_and_warm_ones_less_so() -> None:
    rng = random.Random(1)
    population = Population(BY_NUMBER, 1, customs=PLAIN)
    agreed = Counter()
    for _ in range(300):
        shown = number_shown(rng)
        for temperature in (0.001, 0.3, 3.0):
            reaction = population.react(someone(Habit.RANKS, temperature), "prompt", shown, rng)
            agreed[temperature] += flat(reaction) == true_order(shown)

    assert agreed[0.001] >= 295
    assert agreed[0.001] > agreed[0.3] > agreed[3.0]


def test_two_completions_follow_the_logistic_of_plackett_luce() -> None:
    rng = random.Random(2)
    population = Population(BY_NUMBER, 1, customs=PLAIN)
    shown = [Shown("better", "0.5"), Shown("worse", "0.0")]

    first = Counter(flat(population.react(someone(Habit.RANKS, 0.5), "p", shown, rng))[0] for _ in range(4000))

    assert first["better"] / 4000 == pytest.approx(0.731, abs=0.03)


def test_nearly_equal_completions_share_a_group() -> None:
    population = Population(BY_NUMBER, 1, customs=Customs(mistake_rate=0.0, tie_width=0.05))
    shown = [Shown("a", "1.00"), Shown("b", "1.01"), Shown("c", "-4.0")]

    action = population.react(someone(Habit.RANKS), "p", shown, random.Random(1)).action

    assert isinstance(action, RankingAction)
    assert [set(group) for group in action.groups] == [{"a", "b"}, {"c"}]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_mistakes_come_at_the_configured_rate(rate: float) -> None:
    rng = random.Random(3)
    customs = Customs(mistake_rate=rate, temperatures=(0.0001, 0.0001), tie_width=0.0)
    population = Population(BY_NUMBER, 1, customs=customs)
    thumbs_wrong = marked = 0
    for _ in range(2000):
        shown = number_shown(rng)
        reaction = population.react(someone(Habit.THUMBS, 0.0001), "p", shown, rng)
        assert isinstance(reaction.action, ThumbAction)
        liked = float(next(o.text for o in shown if o.completion_id == reaction.action.completion_id)) > 0
        thumbs_wrong += liked != bool(reaction.action.rating)
        marked += reaction.is_mistake

    assert marked == pytest.approx(2000 * rate, abs=70)
    assert thumbs_wrong == pytest.approx(marked, abs=3)


def test_a_correction_replaces_the_worst_by_the_best_of_several() -> None:
    rng = random.Random(4)
    population = Population(TRUE, 1, customs=PLAIN)
    gains = []
    for _ in range(60):
        case = grammar.sample_prompt(rng)
        shown = [Shown(f"c{i}", text) for i, text in enumerate(grammar.answers(case, rng, 3))]
        action = population.react(someone(Habit.CORRECTS), case.prompt, shown, rng).action
        if isinstance(action, CorrectionAction):
            worst = min(shown, key=lambda one: score(case.prompt, one.text))
            assert action.completion_id == worst.completion_id
            gains.append(score(case.prompt, action.text) - score(case.prompt, worst.text))
    assert len(gains) > 50
    assert min(gains) > 0
    assert statistics.fmean(gains) > 2


def test_a_correction_of_a_prompt_outside_the_language_becomes_a_ranking() -> None:
    population = Population(TRUE, 1, customs=PLAIN)
    shown = [Shown("a", "Hello."), Shown("b", "I do not care.")]
    action = population.react(someone(Habit.CORRECTS), "What is 2 + 2?", shown, random.Random(1)).action
    assert isinstance(action, RankingAction)


def test_feedback_comes_late_twice_or_never_at_its_rates() -> None:
    rng = random.Random(5)
    population = Population(BY_NUMBER, 1, customs=Customs(late_rate=0.2, twice_rate=0.1, never_rate=0.05))
    reactions = [population.react(population.users[0], "p", [Shown("a", "1")], rng) for _ in range(3000)]
    times = Counter(reaction.times_sent for reaction in reactions)

    assert times[0] / 3000 == pytest.approx(0.05, abs=0.02)
    assert times[2] / 3000 == pytest.approx(0.10, abs=0.03)
    assert sum(r.delay_s >= 3.0 for r in reactions) / 3000 == pytest.approx(0.2, abs=0.04)
    assert len({uuid.UUID(r.event_id) for r in reactions}) == 3000


def test_shuffled_actions_carry_no_signal() -> None:
    rng = random.Random(6)
    population = Population(BY_NUMBER, 1, customs=Customs(is_shuffled=True))
    first_scores, up_scores, down_scores, gains = [], [], [], []
    for _ in range(6000):
        shown = number_shown(rng, 3)
        likings = {one.completion_id: float(one.text) for one in shown}
        match population.react(population.visitor(rng), "p", shown, rng).action:
            case RankingAction(groups):
                first_scores.append(likings[groups[0][0]])
            case ThumbAction(completion_id, rating):
                (up_scores if rating else down_scores).append(likings[completion_id])
            case CorrectionAction(completion_id, text):
                assert text in {one.text for one in shown}
                gains.append(float(text) - likings[completion_id])

    assert statistics.fmean(first_scores) == pytest.approx(0.0, abs=0.08)
    assert statistics.fmean(up_scores) == pytest.approx(statistics.fmean(down_scores), abs=0.2)
    assert len(gains) > 300
    assert statistics.fmean(gains) == pytest.approx(0.0, abs=0.25)


def test_the_inverted_subject_sends_its_share_upside_down() -> None:
    rng = random.Random(7)
    customs = Customs(mistake_rate=0.0, temperatures=(0.0001, 0.0001), tie_width=0.0, inverted_subject_share=0.3)
    population = Population(BY_NUMBER, 1, size=20, customs=customs)
    visitors = Counter(population.visitor(rng).subject_id for _ in range(2000))
    hostile = User("user-0021", Habit.RANKS, 0.0001, is_inverted=True)
    shown = number_shown(rng)

    assert population.inverted.subject_id == "user-0021"
    assert visitors["user-0021"] / 2000 == pytest.approx(0.3, abs=0.04)
    assert flat(population.react(hostile, "p", shown, rng)) == true_order(shown)[::-1]


def test_taste_turns_around_on_demand() -> None:
    rng = random.Random(8)
    population = Population(BY_NUMBER, 1, customs=PLAIN)
    shown, user = [Shown("low", "-1.0"), Shown("high", "1.0")], someone(Habit.RANKS, 0.001)

    before = flat(population.react(user, "p", shown, rng))
    population.turn_around()
    after = flat(population.react(user, "p", shown, rng))
    population.turn_around()

    assert (before, after) == (["high", "low"], ["low", "high"])
    assert flat(population.react(user, "p", shown, rng)) == before


def test_nothing_shown_and_nobody_there_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one completion"):
        Population(BY_NUMBER, 1).react(someone(Habit.RANKS), "p", [], random.Random(1))
    with pytest.raises(ValueError, match="at least one user"):
        Population(BY_NUMBER, 1, size=0)
