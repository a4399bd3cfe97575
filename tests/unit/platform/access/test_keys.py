"""Keys: what is kept of them, whom they stand for, and that changes of the file are seen."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from attune.domain.access import ANYBODY, Scope
from attune.domain.errors import ConfigurationInvalid, InvalidInput, PermissionDenied, Unauthenticated
from attune.platform.access.keys import Key, KeyStore, new_key, read_keys, write_keys

SHOP, SHOP_KEY = new_key("shop", ["generate", "feedback"])
OPERATOR, OPERATOR_KEY = new_key("ana", ["control"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, [SHOP_KEY, OPERATOR_KEY])
    return path


def test_the_file_holds_no_key_and_is_for_its_owner(file: Path) -> None:
    text = file.read_text()
    for key in (SHOP, OPERATOR):
        assert key not in text
        assert key.split("_", 2)[2] not in text
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_keys(file) == [SHOP_KEY, OPERATOR_KEY]
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_keys_differ_and_are_long() -> None:
    made = {new_key("shop", ["score"])[0] for _ in range(100)}
    assert len(made) == 100
    assert all(len(key.split("_", 2)[2]) == 43 for key in made)


@pytest.mark.parametrize("scope", ["generate", "feedback"])
def test_a_key_opens_what_it_was_made_for(file: Path, scope: str) -> None:
    found = KeyStore(file).identity(f"Bearer {SHOP}", Scope(scope))
    assert (found.name, found.key_id) == ("shop", SHOP_KEY.id)
    assert KeyStore(file).identity(f"bearer  {SHOP} ", Scope(scope)) == found


@pytest.mark.parametrize(
    ("key", "scope"), [(SHOP, "score"), (SHOP, "control"), (OPERATOR, "generate")], ids=["score", "control", "app"]
)
def test_a_key_opens_nothing_else(file: Path, key: str, scope: str) -> None:
    with pytest.raises(PermissionDenied, match=f"scope {scope}") as raised:
        KeyStore(file).identity(f"Bearer {key}", Scope(scope))
    assert key not in raised.value.message


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", SHOP, f"Basic {SHOP}", f"Bearer {SHOP}x", f"Bearer {SHOP[:-1]}", "Bearer \udcff",
     f"Bearer attune_{SHOP_KEY.id}_", f"Bearer attune_{'0' * 12}_{SHOP.split('_', 2)[2]}", f"Bearer {SHOP_KEY.sha256}"],
    ids=range(12),
)  # fmt: skip
def test_without_a_key_that_holds_nobody_calls(file: Path, authorization: str | None) -> None:
    with pytest.raises(Unauthenticated):
        KeyStore(file).identity(authorization, Scope.GENERATE)


def test_without_a_file_everybody_calls() -> None:
    store = KeyStore()
    assert store.is_open
    assert store.identity(None, Scope.CONTROL) is ANYBODY
    assert store.known(SHOP) is None


def test_a_revoked_key_and_a_fresh_one_are_seen_at_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = KeyStore(file)
    forum, forum_key = new_key("forum", ["generate"])
    with caplog.at_level(logging.DEBUG):
        write_keys(file, [forum_key])
        assert store.identity(f"Bearer {forum}", Scope.GENERATE).name == "forum"
        with pytest.raises(Unauthenticated):
            store.identity(f"Bearer {SHOP}", Scope.GENERATE)
    assert "1 keys were read" in caplog.text
    assert forum not in caplog.text


def test_a_file_that_cannot_be_read_leaves_the_keys_in_force_and_is_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = KeyStore(file)
    whole = file.read_text()
    file.write_text(whole[:-20])
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert store.identity(f"Bearer {SHOP}", Scope.GENERATE).name == "shop"
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        file.unlink()
        assert store.known(SHOP)
    assert len(caplog.records) == 2
    write_keys(file, [OPERATOR_KEY])
    assert store.known(SHOP) is None


def entry(**changes: object) -> str:
    return json.dumps({"keys": [SHOP_KEY.model_dump(mode="json") | changes]})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no JSON", "are not JSON"),
        ("[]", "do not hold"),
        (entry(scopes=["control", "score"]), "stands alone"),
        (entry(scopes=[]), "at least one"),
        (entry(scopes=["write"]), "keys.0.scopes"),
        (entry(sha256="00"), "keys.0.sha256"),
        (entry(id="x"), "keys.0.id"),
        (entry(name=""), "keys.0.name"),
        (entry(extra=1), "keys.0.extra"),
        (json.dumps({"keys": [SHOP_KEY.model_dump(mode="json")] * 2}), "an id twice"),
    ],
    ids=range(10),
)
def test_a_file_that_does_not_hold_is_refused_at_the_start(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(ConfigurationInvalid, match=why):
        KeyStore(file)


def test_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        KeyStore(tmp_path / "none.json")


def test_a_key_needs_a_name_and_scopes() -> None:
    with pytest.raises(InvalidInput):
        new_key("", ["score"])
    with pytest.raises(InvalidInput):
        new_key("shop", ["control", "score"])
    assert isinstance(SHOP_KEY, Key)
