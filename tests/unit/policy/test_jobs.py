"""How many tokens a job may ask for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from attune.domain.errors import PromptTooLong
from attune.domain.generations import Purpose, Sampling
from attune.modeling.revisions import Held
from attune.policy.jobs import Job, check_fits

HELD = Held("policies/support/revisions/1", SimpleNamespace(max_context=10))


def test_a_completion_is_limited_by_what_was_asked_and_by_the_context() -> None:
    asked = [Job(HELD, (5,) * 4, Sampling(max_tokens=n, completions=3), Purpose.USER) for n in (2, 50)]
    assert [job.limit for job in asked] == [2, 6]
    assert [job.tokens for job in asked] == [6, 18]


def test_a_prompt_must_leave_room_for_a_token() -> None:
    assert check_fits((5,) * 9, 10) == 1
    with pytest.raises(PromptTooLong) as raised:
        check_fits((5,) * 10, 10)
    assert raised.value.metadata == {"prompt_tokens": "10", "context": "10"}
