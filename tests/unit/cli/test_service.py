"""The command that all services share: settings from every source, and exit statuses that a supervisor understands."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import click
import pytest
from attune.cli.service import service_command, settings_of
from attune.domain.errors import ConfigurationInvalid, RegistryCorrupt
from attune.platform.config import ServiceSettings
from click.testing import CliRunner
from pydantic import Field


class BakerySettings(ServiceSettings):
    service: ClassVar[str] = "bakery"

    name: str = Field("corner", description="Over the door.")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[BakerySettings]:
    """A package with a config and a main, as every service has."""
    ran: list[BakerySettings] = []

    async def main(settings: BakerySettings, stop: asyncio.Event) -> None:
        ran.append(settings)
        if settings.name == "broken":
            raise RegistryCorrupt("torn")

    for name, attributes in {"config": {"BakerySettings": BakerySettings}, "main": {"main": main}}.items():
        module = ModuleType(f"bakery.{name}")
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, f"bakery.{name}", module)
    monkeypatch.setitem(sys.modules, "bakery", ModuleType("bakery"))
    return ran


@pytest.fixture
def bakery() -> click.Command:
    return service_command("bakery", "bakery", "BakerySettings", "Bakes.")


def test_runs_with_its_settings(
    served: list[BakerySettings], bakery: click.Command, runner: CliRunner, tmp_path: Path
) -> None:
    config = tmp_path / "bakery.toml"
    config.write_text('name = "file"\n')
    assert runner.invoke(bakery, ["--config", str(config)]).exit_code == 0
    assert runner.invoke(bakery, ["--config", str(config), "--set", "name=flag"]).exit_code == 0
    assert runner.invoke(bakery, [], env={"ATTUNE_BAKERY_NAME": "environment"}).exit_code == 0
    assert [settings.name for settings in served] == ["file", "flag", "environment"]


def test_a_failure_is_status_1_and_a_bad_setting_status_2(
    served: list[BakerySettings], bakery: click.Command, runner: CliRunner
) -> None:
    assert runner.invoke(bakery, ["--set", "name=broken"]).exit_code == 1
    refused = runner.invoke(bakery, ["--set", "nmae=x"])
    assert refused.exit_code == 2
    assert "attune bakery: there is no setting nmae; did you mean name?" in refused.output
    assert [settings.name for settings in served] == ["broken"]


@pytest.mark.usefixtures("served")
def test_another_command_may_take_the_settings_of_a_service(runner: CliRunner) -> None:
    @click.command("clean")
    @click.option("--twice", is_flag=True)
    @settings_of("bakery", "BakerySettings")
    def clean(settings: BakerySettings, twice: bool) -> None:
        click.echo(f"{settings.name} {twice}")

    shown = runner.invoke(clean, ["--set", "name=flag", "--twice"], env={"ATTUNE_BAKERY_NAME": "environment"})
    assert shown.stdout == "flag True\n"
    assert isinstance(runner.invoke(clean, ["--set", "nmae=x"]).exception, ConfigurationInvalid)


def test_settings_are_listed_and_nothing_runs(
    served: list[BakerySettings], bakery: click.Command, runner: CliRunner
) -> None:
    assert "name (str, corner): Over the door." in runner.invoke(bakery, ["--settings"]).output
    assert served == []
