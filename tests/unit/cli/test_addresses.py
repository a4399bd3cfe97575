"""Addresses of services: default, environment, option."""

from __future__ import annotations

import click
import pytest
from attune.cli.addresses import ADDRESSES, address_option
from click.testing import CliRunner


@click.command
@address_option("policy_control")
def show(policy_control_address: str) -> None:
    click.echo(policy_control_address)


def test_option_before_environment_before_default(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTUNE_CLI_POLICY_CONTROL_ADDRESS", raising=False)
    assert runner.invoke(show).output.strip() == ADDRESSES["policy_control"]
    monkeypatch.setenv("ATTUNE_CLI_POLICY_CONTROL_ADDRESS", "a:1")
    assert runner.invoke(show).output.strip() == "a:1"
    assert runner.invoke(show, ["--policy-control-address", "b:2"]).output.strip() == "b:2"


def test_no_two_services_share_an_address() -> None:
    assert len(set(ADDRESSES.values())) == len(ADDRESSES)
