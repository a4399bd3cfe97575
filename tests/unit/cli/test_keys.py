"""attune keys: what is made opens what it should, what is listed opens nothing, what is revoked no longer does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.cli.keys import keys
from attune.domain.access import Scope
from attune.domain.errors import InvalidInput
from attune.platform.access.keys import KeyStore, read_keys
from click.testing import CliRunner, Result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "keys.json"


def run(runner: CliRunner, file: Path, *arguments: str) -> Result:
    return runner.invoke(keys, [*arguments, "--file", str(file)])


def test_a_key_is_printed_once_and_opens_its_scopes(runner: CliRunner, file: Path) -> None:
    made = run(runner, file, "create", "shop", "--scope", "generate", "--scope", "feedback")
    assert made.exit_code == 0, made.output
    (key,) = made.stdout.split()
    assert KeyStore(file).identity(f"Bearer {key}", Scope.FEEDBACK).name == "shop"
    assert "of shop for feedback, generate" in made.stderr
    assert key not in made.stderr + file.read_text()


def test_a_key_can_go_to_a_file_of_its_owner(runner: CliRunner, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "ana.key"
    made = run(runner, file, "create", "ana", "--scope", "control", "--out", str(out))
    assert (made.exit_code, made.stdout) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o600
    assert KeyStore(file).identity(f"Bearer {out.read_text().strip()}", Scope.CONTROL).name == "ana"
    again = run(runner, file, "create", "ana", "--scope", "control", "--out", str(out))
    assert isinstance(again.exception, InvalidInput)
    assert len(read_keys(file)) == 1


def test_keys_are_listed_without_what_opens(runner: CliRunner, file: Path) -> None:
    key = run(runner, file, "create", "shop", "--scope", "generate").stdout.strip()
    run(runner, file, "create", "ana", "--scope", "control")
    (shop, ana) = json.loads(run(runner, file, "list", "--json").stdout)
    assert (shop["name"], shop["scopes"], ana["scopes"]) == ("shop", ["generate"], ["control"])
    table = run(runner, file, "list").output
    assert shop["id"] in table
    assert key not in table
    assert "sha256" not in shop


def test_a_revoked_key_opens_nothing(runner: CliRunner, file: Path) -> None:
    key = run(runner, file, "create", "shop", "--scope", "generate").stdout.strip()
    store = KeyStore(file)
    assert store.known(key)
    run(runner, file, "revoke", read_keys(file)[0].id)
    assert store.known(key) is None
    assert isinstance(run(runner, file, "revoke", "0" * 12).exception, InvalidInput)


@pytest.mark.parametrize(
    "scopes", [[], ["write"], ["control", "score"]], ids=["none", "unknown", "control and another"]
)
def test_scopes_that_do_not_hold_make_no_key(runner: CliRunner, file: Path, scopes: list[str]) -> None:
    asked = run(runner, file, "create", "shop", *(part for scope in scopes for part in ("--scope", scope)))
    assert asked.exit_code != 0
    assert not file.exists()
