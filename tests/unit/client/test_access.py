"""How a client shows itself: what goes together, the key of a file that changes, and certificates against a server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from attune.client.access import Access, Bearer
from attune.domain.errors import ConfigurationInvalid
from support.certificates import Authority


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"ca_file": "ca.pem"}, "need tls"),
        ({"tls": True, "cert_file": "a.pem"}, "belong together"),
        ({"bearer": "k", "bearer_file": "f"}, "not both"),
    ],
    ids=range(3),
)
def test_what_does_not_go_together_is_refused(how: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=why):
        Access(**how)  # type: ignore[arg-type]


def test_a_bearer_is_not_printed() -> None:
    assert "swordfish" not in repr(Access(bearer="swordfish"))
    assert Bearer(Access(bearer="swordfish")).metadata() == (("authorization", "Bearer swordfish"),)
    assert Bearer(Access()).metadata() == ()


def test_a_bearer_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one\n")
    bearer = Bearer(Access(bearer_file=str(file)))
    assert bearer.metadata() == (("authorization", "Bearer one"),)
    file.write_text("another\n")
    assert bearer.metadata() == (("authorization", "Bearer another"),)
    file.unlink()
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        bearer.metadata()


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    one, two = Authority(tmp_path).client("one"), Authority(tmp_path).client("two")
    for how in (
        {"ca_file": "/no/such/file"},
        {"cert_file": str(one.certificate), "key_file": str(two.key)},
        {"cert_file": str(one.certificate), "key_file": "/no/such/file"},
    ):
        with pytest.raises(ConfigurationInvalid):
            Access(tls=True, **how).channel_credentials()  # type: ignore[arg-type]
    assert Access().channel_credentials() is None


def test_a_stamp_changes_with_what_a_channel_is_made_of(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.client("one"), authority.client("two")
    access = Access(tls=True, ca_file=str(authority.file), cert_file=str(one.certificate), key_file=str(one.key))
    before = access.stamp()
    assert access.stamp() == before
    shutil.copyfile(two.key, one.key)
    assert access.stamp() != before
