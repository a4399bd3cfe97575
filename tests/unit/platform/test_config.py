"""Settings: which source wins, and that nothing misspelt passes in silence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import LogLevel, Section, ServiceSettings, listing, load_settings
from pydantic import Field, SecretStr, ValidationError


class Oven(Section):
    degrees: int = Field(180, ge=0, le=300, description="How hot.")
    fan: bool = Field(False, description="Whether air moves.")


class BakerySettings(ServiceSettings):
    service: ClassVar[str] = "bakery"

    name: str = Field("corner", description="Over the door.")
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    oven: Oven = Oven(degrees=200)
    recipe: SecretStr = Field(SecretStr(""), description="What nobody else may read.")


def load(**sources) -> BakerySettings:
    return load_settings(BakerySettings, **sources)


def toml(folder: Path, text: str) -> Path:
    path = folder / "bakery.toml"
    path.write_text(text)
    return path


def test_defaults() -> None:
    assert load() == BakerySettings()
    assert load().oven.degrees == 200


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    config = toml(tmp_path, 'name = "file"\n[oven]\ndegrees = 1\nfan = true\n')
    environ = {"ATTUNE_BAKERY_NAME": "environment", "ATTUNE_BAKERY_OVEN__DEGREES": "2"}
    found = load(flags=["oven.degrees=3"], config=config, environ=environ)
    assert (found.name, found.oven.degrees, found.oven.fan) == ("environment", 3, True)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("nmae=x", "there is no setting nmae; did you mean name?"),
        ("oven.degree=5", "there is no setting oven.degree; did you mean oven.degrees?"),
        ("zzz=1", "there is no setting zzz"),
        ("oven.degrees=900", "oven.degrees"),
        ("oven.degrees=hot", "oven.degrees"),
        ("log_level=loud", "log_level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("oven=5", "oven"),
        ("name.first=x", "name"),
        ("name", "no KEY=VALUE"),
        ("recipe=flour", "recipe is a secret and no flag: set ATTUNE_BAKERY_RECIPE"),
    ],
)
def test_a_bad_flag_is_refused_by_its_key(flag: str, message: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=message):
        load(flags=[flag])


@pytest.mark.parametrize("text", ["nmae = 1\n", "[oven]\ndegree = 1\n", "[stove]\nx = 1\n", "not toml ="])
def test_a_bad_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        load(config=toml(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bakery.toml"
    path.write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(ConfigurationInvalid, match="is not TOML"):
        load(config=path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        load(config=tmp_path / "none.toml")


def test_an_unknown_variable_is_a_warning_unless_it_is_anothers(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"ATTUNE_BAKERY_NMAE": "x", "ATTUNE_TRAINER_SEED": "1", "ATTUNE_CLI_REGISTRY": "r", "HOME": "/"}
    with caplog.at_level(logging.WARNING):
        assert load(environ=environ, known_services=["trainer", "cli"]) == BakerySettings()
    assert [r.getMessage().split()[3] for r in caplog.records] == ["ATTUNE_BAKERY_NMAE"]


def test_a_secret_comes_from_the_environment_and_is_not_printed() -> None:
    found = load(environ={"ATTUNE_BAKERY_RECIPE": "flour and salt"})
    assert found.recipe.get_secret_value() == "flour and salt"
    assert "salt" not in f"{found!r}"


def test_the_listing_names_every_setting_with_its_default() -> None:
    assert [(s.key, s.type, s.default) for s in listing(BakerySettings)] == [
        ("name", "str", "corner"),
        ("log_level", "debug|info|warning|error", "info"),
        ("oven.degrees", "int", "200"),
        ("oven.fan", "bool", "False"),
        ("recipe", "SecretStr", ""),
    ]
    assert all(s.description for s in listing(BakerySettings))


class SafeSettings(ServiceSettings):
    service: ClassVar[str] = "safe"

    code: SecretStr = Field(SecretStr(""), description="Opens it.")


def test_a_secret_comes_from_the_environment_or_a_file_never_from_a_flag(tmp_path: Path) -> None:
    opened = load_settings(SafeSettings, environ={"ATTUNE_SAFE_CODE": "1234"})
    assert opened.code.get_secret_value() == "1234"
    assert "1234" not in repr(opened)
    assert load_settings(SafeSettings, config=toml(tmp_path, 'code = "5678"\n')).code.get_secret_value() == "5678"
    with pytest.raises(ConfigurationInvalid, match="code is a secret"):
        load_settings(SafeSettings, ["code=1234"])


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load().name = "other"  # type: ignore[misc]
