"""The check of labels: it passes what the named weights wrote, and finds all else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from attune.domain.generations import Completion, FinishReason, Generation, Purpose, RevisionSpan, Sampling
from attune.domain.prompts import Prompt
from attune.modeling.loading import LoadedPolicy, load_policy
from benchmarks.labels import TOLERANCE, check
from tiny_models import tiny_policy_folder
from unit.policy.serving import recomputed

ONE, TWO = "policies/a/revisions/1", "policies/a/revisions/2"
TOKENS = 6


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedPolicy]:
    folder = tmp_path_factory.mktemp("policies")
    return {name: load_policy(tiny_policy_folder(folder / str(seed), seed=seed)) for seed, name in ((1, ONE), (2, TWO))}


def unlabelled(id: str, temperature: float = 1.0, tokens: int = TOKENS) -> Generation:
    completion = Completion(f"{id}/0", "", tuple(range(20, 20 + tokens)), (), FinishReason.LENGTH, ())
    sampling = Sampling(max_tokens=tokens, temperature=temperature)
    return Generation(id, "a", "", Prompt.user("hello"), (5, 6, 7), (completion,), ONE, sampling, Purpose.USER, 0.0)


def written(generation: Generation, policies: dict[str, LoadedPolicy], *spans: RevisionSpan) -> Generation:
    """With the log-probabilities that the revisions of the spans give, and labelled with these spans."""
    logprobs = [
        logprob
        for span in spans
        for logprob in recomputed(policies[span.revision], generation)[span.first_token :][: span.tokens]
    ]
    completion = replace(generation.completions[0], logprobs=tuple(logprobs), spans=spans)
    return replace(generation, completions=(completion,))


def with_completion(generation: Generation, **changed: object) -> Generation:
    return replace(generation, completions=(replace(generation.completions[0], **changed),))  # type: ignore[arg-type]


def test_what_the_named_weights_wrote_passes(policies: dict[str, LoadedPolicy]) -> None:
    whole = written(unlabelled("whole"), policies, RevisionSpan(ONE, 0, TOKENS))
    short = written(unlabelled("short", 0.7, 2), policies, RevisionSpan(TWO, 0, 2))
    spanning = written(unlabelled("spanning", 1.5), policies, RevisionSpan(ONE, 0, 2), RevisionSpan(TWO, 2, 4))
    found = check([whole, short, spanning], policies)
    assert (found.completions, found.mislabelled) == (3, frozenset())
    assert found.largest_gap < TOLERANCE / 10


def test_other_weights_than_the_named_ones_are_found(policies: dict[str, LoadedPolicy]) -> None:
    right = written(unlabelled("right"), policies, RevisionSpan(ONE, 0, TOKENS))
    wrong = with_completion(
        written(unlabelled("wrong"), policies, RevisionSpan(ONE, 0, TOKENS)), spans=(RevisionSpan(TWO, 0, TOKENS),)
    )
    assert check([right, wrong], policies).mislabelled == {"wrong/0"}


def test_a_swap_that_is_told_one_token_late_is_found(policies: dict[str, LoadedPolicy]) -> None:
    spanning = written(unlabelled("late"), policies, RevisionSpan(ONE, 0, 2), RevisionSpan(TWO, 2, 4))
    late = with_completion(spanning, spans=(RevisionSpan(ONE, 0, 3), RevisionSpan(TWO, 3, 3)))
    assert check([late], policies).mislabelled == {"late/0"}


@pytest.mark.parametrize("off_by", [2 * TOLERANCE, math.nan, -math.inf])
def test_one_token_that_is_off_is_found(policies: dict[str, LoadedPolicy], off_by: float) -> None:
    right = written(unlabelled("one"), policies, RevisionSpan(ONE, 0, TOKENS))
    logprobs = list(right.completions[0].logprobs)
    logprobs[-1] += off_by
    assert check([with_completion(right, logprobs=tuple(logprobs))], policies).mislabelled == {"one/0"}


@pytest.mark.parametrize("spans", [[], [(0, 5)], [(1, 5)], [(0, 4), (3, 3)], [(0, 2), (3, 3)]], ids=str)
def test_spans_that_do_not_add_up_are_found(policies: dict[str, LoadedPolicy], spans: list[tuple[int, int]]) -> None:
    right = written(unlabelled("one"), policies, RevisionSpan(ONE, 0, TOKENS))
    told = with_completion(right, spans=tuple(RevisionSpan(ONE, first, tokens) for first, tokens in spans))
    assert check([told], policies).mislabelled == {"one/0"}


def test_a_revision_that_nobody_has_is_no_label(policies: dict[str, LoadedPolicy]) -> None:
    right = written(unlabelled("one"), policies, RevisionSpan(ONE, 0, TOKENS))
    with pytest.raises(KeyError):
        check([right], {})
