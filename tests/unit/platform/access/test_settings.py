"""Which ports may open to others, and what is said of those that do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.platform.access.keys import new_key, write_keys
from attune.platform.access.settings import OPEN, AccessSettings, open_access, warn_of_others
from attune.platform.config import AppPort, ControlPort, load_settings
from support.certificates import Authority


class BakerySettings(AccessSettings):
    service: ClassVar[str] = "bakery"

    app: AppPort = AppPort()
    control: ControlPort = ControlPort()


def load(*flags: str) -> BakerySettings:
    return load_settings(BakerySettings, flags)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    write_keys(tmp_path / "keys.json", [new_key("shop", ["score"])[1]])
    return tmp_path / "keys.json"


def test_on_loopback_everything_is_off(caplog: pytest.LogCaptureFixture) -> None:
    access = open_access(load())
    assert access.keys.is_open
    assert (access.certificates, access.scheme, access.ssl_context(), caplog.text) == (None, "http", None, "")
    assert OPEN.keys.is_open


def test_a_control_port_that_others_reach_needs_keys(keys_file: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"control\.host is not loopback: set keys_file"):
        load("control.host=0.0.0.0")
    assert load("control.host=0.0.0.0", f"keys_file={keys_file}").control.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_a_control_port_needs_none(host: str) -> None:
    assert load(f"control.host={host}").control.host == host


def test_an_app_port_that_others_reach_without_keys_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_access(load("app.host=0.0.0.0"))
    assert "everybody who reaches 0.0.0.0 may call" in caplog.text


@pytest.mark.parametrize(("host", "is_warned"), [("10.0.0.7", True), ("127.0.0.1", False)])
def test_a_port_of_another_kind_is_warned_about_like_it(
    host: str, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_others(host, OPEN)
    assert (f"everybody who reaches {host} may call" in caplog.text) is is_warned


def test_keys_in_the_clear_are_warned_about(tmp_path: Path, keys_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not open_access(load("app.host=0.0.0.0", f"keys_file={keys_file}")).keys.is_open
    assert "in the clear" in caplog.text
    caplog.clear()
    pair = Authority(tmp_path).server()
    tls = f"tls.cert_file={pair.certificate}", f"tls.key_file={pair.key}"
    access = open_access(load("app.host=0.0.0.0", f"keys_file={keys_file}", *tls))
    assert access.certificates
    assert access.ssl_context()
    assert (access.scheme, caplog.text) == ("https", "")


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("tls.cert_file=a.pem", "belong together"),
        ("tls.key_file=a.key", "belong together"),
        ("tls.client_ca_file=ca.pem", "needs cert_file"),
    ],
)
def test_half_of_a_certificate_is_refused(flag: str, why: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=why):
        load(flag)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        open_access(load("keys_file=/no/such/file"))
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        open_access(load("tls.cert_file=/no/such/file", "tls.key_file=/no/such/key"))
