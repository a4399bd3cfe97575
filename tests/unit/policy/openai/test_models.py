"""Names of models: what they ask for, and what answers say."""

from __future__ import annotations

import pytest
from attune.domain.errors import RevisionUnknown
from attune.policy.openai.models import asked_revision, listed, model_of
from unit.policy.serving import MODEL


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("", ""),
        ("support", ""),
        ("policies/support", ""),
        ("support@canary", "canary"),
        ("support@7", "7"),
        ("policies/support/revisions/7", "policies/support/revisions/7"),
    ],
)
def test_a_name_asks_for_a_revision(name: str, asked: str) -> None:
    assert asked_revision(name, MODEL) == asked


@pytest.mark.parametrize("name", ["gpt", "other@7", "support@", "policies/other/revisions/7", "support7"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(RevisionUnknown):
        asked_revision(name, MODEL)


def test_an_answer_names_the_weights_by_number_and_may_be_asked_for_again() -> None:
    revision = str(MODEL.revision(7))
    assert model_of(revision) == "support@7"
    assert asked_revision(model_of(revision), MODEL) == "7"


def test_what_is_not_in_memory_is_not_listed() -> None:
    one, two, three = (str(MODEL.revision(n)) for n in (1, 2, 3))
    aliases = {"stable": one, "canary": two, "latest": three}
    assert listed(MODEL, aliases, (one, two)) == {
        "support": one,
        "support@canary": two,
        "support@1": one,
        "support@2": two,
    }
