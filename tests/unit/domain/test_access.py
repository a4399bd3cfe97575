"""Scopes that go together, and whose app a key speaks for."""

from __future__ import annotations

import pytest
from attune.domain.access import ANYBODY, Identity, Scope, checked_scopes
from attune.domain.errors import InvalidInput, PermissionDenied


@pytest.mark.parametrize("scopes", [["generate"], ["generate", "score", "feedback"], ["control"]], ids=" ".join)
def test_scopes_of_one_key(scopes: list[str]) -> None:
    assert checked_scopes(scopes) == set(scopes)


@pytest.mark.parametrize(
    ("scopes", "why"),
    [([], "at least one"), (["write"], "generate, score, feedback, control"), (["control", "score"], "stands alone")],
    ids=["none", "unknown", "control and another"],
)
def test_scopes_that_do_not_go_together(scopes: list[str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        checked_scopes(scopes)


def test_a_key_speaks_for_its_app_alone() -> None:
    shop = Identity("shop", "0" * 12, frozenset({Scope.GENERATE}))
    assert (shop.app_id(""), shop.app_id("shop")) == ("shop", "shop")
    with pytest.raises(PermissionDenied, match="must be shop") as raised:
        shop.app_id("forum")
    assert [v.field for v in raised.value.violations] == ["app_id"]


def test_where_no_key_is_asked_for_any_app_is_who_it_says() -> None:
    assert (ANYBODY.app_id("shop"), ANYBODY.app_id("")) == ("shop", "")
