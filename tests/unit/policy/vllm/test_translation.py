"""How what vLLM gives is read, and which seeds it gets; tests/integration/test_vllm.py asks it for real."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from attune.domain.errors import ServerUnavailable
from attune.domain.generations import FinishReason, RevisionSpan
from attune.modeling.revisions import Held
from attune.policy.jobs import Tokens
from attune.policy.vllm.translation import seed_of, tokens_of

ONE = Held("policies/support/revisions/1", SimpleNamespace())


def output(**what: Any) -> SimpleNamespace:
    """A completion as vLLM gives it; by default two tokens of one that goes on."""
    given = {"index": 0, "token_ids": [5, 6], "logprobs": SimpleNamespace(logprobs=[-1.5, -0.5])}
    return SimpleNamespace(**given | {"finish_reason": None, "stop_reason": None, "weight_versions": None} | what)


def test_an_output_becomes_tokens_and_its_last_one_says_who_wrote_which() -> None:
    assert tokens_of(output(), ONE) == Tokens(0, (5, 6), (-1.5, -0.5), None, ONE.name, ())
    spans = [SimpleNamespace(version="a", start=0, end=3), SimpleNamespace(version="b", start=3, end=4)]
    last = tokens_of(output(index=2, finish_reason="length", weight_versions=spans), ONE)
    assert last.spans == (RevisionSpan("a", 0, 3), RevisionSpan("b", 3, 1))
    assert (last.index, last.finish_reason) == (2, FinishReason.LENGTH)
    assert tokens_of(output(token_ids=[], logprobs=None), ONE).logprobs == ()


@pytest.mark.parametrize(
    ("finish", "stop", "expected"),
    [("stop", 1, FinishReason.EOS), ("stop", "Bye", FinishReason.STOP_STRING), ("length", None, FinishReason.LENGTH)],
)
def test_why_a_completion_ended(finish: str, stop: object, expected: FinishReason) -> None:
    assert tokens_of(output(finish_reason=finish, stop_reason=stop), ONE).finish_reason is expected


def test_what_vllm_gave_up_is_no_completion() -> None:
    with pytest.raises(ServerUnavailable):
        tokens_of(output(finish_reason="abort"), ONE)


def test_seeds_of_nearby_requests_have_no_completion_in_common() -> None:
    drawn = {seed_of(seed) + index for seed in range(200) for index in range(64)}
    assert len(drawn) == 200 * 64
    assert 0 <= min(drawn) < max(drawn) < 2**63
    assert seed_of(2**64 - 1) == seed_of(2**64 - 1) != seed_of(0)
