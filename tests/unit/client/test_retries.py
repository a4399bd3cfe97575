"""Which calls are tried again, and how long the pauses are."""

from __future__ import annotations

import pytest
from attune.client.retries import NO_RETRY, Attempts, RetryPolicy
from attune.domain.errors import (
    AttuneError,
    DeadlineExceeded,
    EventLogUnavailable,
    FeedbackConflict,
    InvalidInput,
    Paused,
    QueueFull,
    ServerUnavailable,
)


def attempts(policy: RetryPolicy, timeout_s: float = 100.0, draw: float = 1.0) -> Attempts:
    return Attempts(policy, timeout_s, clock=lambda: 50.0, draw=lambda: draw)


def test_pauses_grow_to_a_limit_and_attempts_end() -> None:
    tried = attempts(RetryPolicy(attempts=5, first_s=0.1, factor=2, longest_s=0.3))
    pauses = [tried.pause_after(ServerUnavailable("away")) for _ in range(5)]
    assert pauses == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3), pytest.approx(0.3), None]


def test_the_pause_is_drawn_below_its_ceiling() -> None:
    assert attempts(RetryPolicy(first_s=0.4), draw=0.25).pause_after(ServerUnavailable("away")) == pytest.approx(0.1)


@pytest.mark.parametrize("error", [ServerUnavailable("x"), EventLogUnavailable("x"), Paused("x")])
def test_unavailable_is_tried_again(error: AttuneError) -> None:
    assert attempts(RetryPolicy()).pause_after(error) is not None
    assert attempts(NO_RETRY).pause_after(error) is None


@pytest.mark.parametrize("error", [InvalidInput("x"), DeadlineExceeded("x"), FeedbackConflict("x"), AttuneError("x")])
def test_what_repetition_cannot_mend_is_not(error: AttuneError) -> None:
    assert attempts(RetryPolicy()).pause_after(error) is None


def test_a_full_queue_is_tried_again_only_when_the_server_says_when() -> None:
    assert attempts(RetryPolicy()).pause_after(QueueFull("full")) is None
    pause_s = attempts(RetryPolicy(first_s=0.1), draw=0.5).pause_after(QueueFull("full", retry_after_s=2))
    assert pause_s == pytest.approx(2.05)


def test_no_pause_reaches_past_the_deadline() -> None:
    tried = attempts(RetryPolicy(first_s=2.0), timeout_s=1.5)
    assert tried.remaining_s == 1.5
    assert tried.pause_after(ServerUnavailable("away")) is None
