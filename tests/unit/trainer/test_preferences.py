"""Examples become preferences, preferences become items over flat sequences."""

import pytest
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, Demonstration, FeedbackEvent, Ranking, Rating
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.trainer.likelihood import CorrectedScore, RankedScores, RatedScore
from attune.trainer.preferences import MAX_TIE_ORDER, Preference, batch_of, from_example

GENERATION = uuid7()
IDS = [f"{GENERATION}/{i}" for i in range(3)]
CHAT = [{"role": "user", "content": "hi"}]


def example(feedback, source: str = "") -> Example:
    completions = tuple(ExampleCompletion(c, f"text of {c[-1]}", "") for c in feedback.completion_ids)
    return Example(1, Prompt.user("hi"), completions, FeedbackEvent(uuid7(), "a", "s", feedback, source), 0.0, 0.0)


@pytest.mark.parametrize(
    ("feedback", "expected"),
    [
        (Rating(IDS[2], 0.25), Preference(CHAT, ("text of 2",), "rating", value=0.25, source="stars", weight=0.5)),
        (
            Comparison(IDS[1], IDS[0]),
            Preference(CHAT, ("text of 1", "text of 0"), "ranking", tiers=((0,), (1,)), weight=0.5),
        ),
        (
            Ranking(((IDS[2],), (IDS[0], IDS[1]))),
            Preference(CHAT, ("text of 2", "text of 0", "text of 1"), "ranking", tiers=((0,), (1, 2)), weight=0.5),
        ),
        (
            Demonstration(IDS[0], "better"),
            Preference(CHAT, ("better", "text of 0"), "demonstration", weight=0.5),
        ),
    ],
)
def test_each_kind_of_feedback(feedback, expected):
    source = "stars" if isinstance(feedback, Rating) else ""
    assert from_example(example(feedback, source), 0.5) == expected


def test_ordered_pairs():
    ranking = Preference(CHAT, ("a", "b", "c"), "ranking", tiers=((1,), (0, 2)))
    assert ranking.ordered_pairs() == [(1, 0), (1, 2)]
    assert Preference(CHAT, ("a", "b"), "demonstration").ordered_pairs() == [(0, 1)]
    assert Preference(CHAT, ("a",), "rating").ordered_pairs() == []


def test_batch_points_into_flat_sequences():
    batch = batch_of(
        [
            Preference(CHAT, ("a", "b", "c"), "ranking", tiers=((2,), (0, 1)), weight=0.5),
            Preference(CHAT, ("d",), "rating", value=1.0, source="stars"),
            Preference("text", ("e", "f"), "demonstration"),
        ],
        {"thumbs": 0, "stars": 1},
    )
    assert [text for _, text in batch.sequences] == list("abcdef")
    assert batch.sequences[-1][0] == "text"
    assert batch.items == (
        RankedScores([[2], [0, 1]], 0.5),
        RatedScore(3, 1.0, 1),
        CorrectedScore(4, 5),
    )


def test_a_tie_beyond_the_order_of_the_likelihood_is_cut():
    n = MAX_TIE_ORDER + 2
    batch = batch_of([Preference(CHAT, tuple("abcdefgh"[:n]), "ranking", tiers=(tuple(range(n)),))], {})
    assert len(batch.items[0].levels[0]) == MAX_TIE_ORDER
