"""The reward learner on a tiny model: it learns, normalises, is judged per event, and goes on after a checkpoint."""

from dataclasses import replace

import pytest
import torch
from attune.modeling.reward_model import load_reward_model
from attune.trainer.reward_learner import RewardLearner, RewardSettings, _expected_calibration_error
from support.learning import preferences, tiny_policy, tiny_reward

CHAT = [{"role": "user", "content": "hello 1"}]


@pytest.fixture
def learner():
    return RewardLearner(tiny_reward(tiny_policy()), RewardSettings(lr=3e-3, warmup_steps=1))


def test_learns_rankings_ratings_and_demonstrations(learner):
    first = learner.update(preferences())["nll"]
    for step in range(30):
        last = learner.update(preferences(seed=step))["nll"]
    assert last < 0.7 * first
    good, bad = learner.scores([(CHAT, "good fine"), (CHAT, "bad no")])
    assert good > bad
    assert set(learner.source_biases) == {"thumbs"}
    assert sum(learner.pair_outcomes(preferences(seed=99))) / len(learner.pair_outcomes(preferences(seed=99))) > 0.9


def test_outcomes_are_one_an_event_that_orders(learner):
    assert len(learner.pair_outcomes(preferences(12))) == 9
    assert all(0 <= share <= 1 for share in learner.pair_outcomes(preferences(12)))
    assert learner.pair_outcomes([]) == []


def test_normalised_anchors_have_mean_zero_and_deviation_one(learner):
    anchors = [(CHAT, text) for text in ("good", "bad", "yes", "no thanks")]
    learner.normalise(anchors)
    scores = torch.tensor(learner.scores(anchors))
    assert scores.mean().item() == pytest.approx(0, abs=1e-5)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert learner.normalise(anchors)["anchor_drift"] == pytest.approx(0, abs=1e-6)


def test_what_exceeds_the_context_keeps_its_answer_and_is_counted(learner):
    long = "where is my order? " * 40
    learner.raw_scores([(long, "good"), (CHAT, "good"), (long, "bad")])
    assert (learner.count_cut(), learner.count_cut()) == (2, 0)
    good, bad = learner._tokens([(long, "good"), (long, "bad")])
    assert len(good) == len(bad) == learner._max_context
    assert good != bad


def test_saved_learner_goes_on_bit_for_bit(learner, tmp_path):
    learner.update(preferences())
    learner.save(tmp_path)
    other = RewardLearner(tiny_reward(tiny_policy(3), seed=9), learner.settings)
    other.load(tmp_path)
    assert learner.update(preferences(seed=5)) == other.update(preferences(seed=5))
    assert learner.source_biases == other.source_biases
    assert learner.raw_scores([(CHAT, "good")]) == other.raw_scores([(CHAT, "good")])


def test_a_new_source_keeps_the_moments_of_the_old(learner, tmp_path):
    learner.update(preferences())
    rating = preferences()[0]
    learner.update([replace(rating, source="stars")])
    assert list(learner.source_biases) == ["thumbs", "stars"]
    learner.save(tmp_path)
    other = RewardLearner(tiny_reward(tiny_policy()), learner.settings)
    other.load(tmp_path)
    assert other.source_biases == learner.source_biases


def test_published_folder_scores_the_same(learner, tmp_path):
    learner.update(preferences())
    learner.publish(tmp_path)
    again = RewardLearner(load_reward_model(tmp_path), learner.settings)
    assert again.scores([(CHAT, "good")]) == pytest.approx(learner.scores([(CHAT, "good")]), abs=1e-6)


def test_a_sequence_beyond_the_context_keeps_the_answer(learner):
    long = [{"role": "user", "content": "hello " * 200}]
    scores = learner.raw_scores([(long, "good"), (long, "bad")])
    assert scores[0] != scores[1]


def test_calibration_error_by_hand():
    assert _expected_calibration_error([(0.9, 1.0)] * 9 + [(0.9, 0.0)], 10) == pytest.approx(0.0, abs=1e-9)
    assert _expected_calibration_error([(0.9, 0.0)] * 4, 10) == pytest.approx(0.9)
    assert _expected_calibration_error([], 10) == 0.0
