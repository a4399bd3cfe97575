"""Who gives a command: by name, or by number where the system knows no name."""

from __future__ import annotations

import os
import pwd

import pytest
from attune.cli.person import person

VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def test_the_environment_names_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    assert person() == "ana"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"uid not found: {uid}")

    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert person() == f"uid {os.getuid()}"
