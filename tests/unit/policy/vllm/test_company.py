"""Who is told of vLLM's tokens when."""

from __future__ import annotations

import pytest
from attune.domain.generations import FinishReason, RevisionSpan
from attune.policy.jobs import EngineLimits, Tokens
from attune.policy.vllm.company import Company

HOUR_S = 3600


def token(number: int, finish_reason: FinishReason | None = None, revision: str = "one", index: int = 0) -> Tokens:
    return Tokens(index, (number,), (-float(number),), finish_reason, revision)


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        (EngineLimits(stream_tokens=8, stream_s=HOUR_S), [1, 8, 8, 3]),
        (EngineLimits(stream_tokens=1, stream_s=HOUR_S), [1] * 20),
        (EngineLimits(stream_tokens=1000, stream_s=0), [1] * 20),
    ],
    ids=["by eights", "by ones", "at once"],
)
def test_the_first_goes_at_once_and_later_ones_together(limits: EngineLimits, sizes: list[int]) -> None:
    company = Company(limits, True)
    given = [token(i, FinishReason.LENGTH if i == 19 else None) for i in range(20)]
    told = [tokens for gained in given for tokens in company.add(gained)]
    assert [len(tokens.token_ids) for tokens in told] == sizes
    assert [i for tokens in told for i in tokens.token_ids] == list(range(20))
    assert [-x for tokens in told for x in tokens.logprobs] == list(range(20))
    assert [tokens.finish_reason for tokens in told] == [*[None] * (len(sizes) - 1), FinishReason.LENGTH]


def test_what_another_revision_wrote_goes_by_itself() -> None:
    company = Company(EngineLimits(stream_tokens=8, stream_s=HOUR_S), True)
    told = [tokens for i, name in enumerate("aaabb") for tokens in company.add(token(i, revision=name))]
    assert [(tokens.revision, tokens.token_ids) for tokens in told] == [("a", (0,)), ("a", (1, 2))]
    spans = (RevisionSpan("a", 0, 3), RevisionSpan("b", 3, 3))
    (last,) = company.add(Tokens(0, (5,), (-5.0,), FinishReason.EOS, "b", spans))
    assert (last.revision, last.token_ids, last.spans) == ("b", (3, 4, 5), spans)


def test_completions_of_one_job_do_not_wait_for_each_other() -> None:
    company = Company(EngineLimits(stream_tokens=2, stream_s=HOUR_S), True)
    told = [t for i in range(3) for index in (0, 1) for t in company.add(token(i, index=index))]
    assert [(tokens.index, tokens.token_ids) for tokens in told] == [(0, (0,)), (1, (0,)), (0, (1, 2)), (1, (1, 2))]


def test_who_does_not_stream_is_told_once() -> None:
    company = Company(EngineLimits(stream_tokens=1), False)
    told = [tokens for i, name in enumerate("ab") for tokens in company.add(token(i, revision=name))]
    (last,) = company.add(token(2, FinishReason.EOS, "b"))
    assert not told
    assert (last.token_ids, last.logprobs) == ((0, 1, 2), (0.0, -1.0, -2.0))
