"""Opening stores: what is not installed or not known is said, and what S3's client raises is known."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.platform.registry.stores import client_errors, open_filesystem


def test_a_path_is_a_folder_and_opening_it_makes_nothing(tmp_path: Path) -> None:
    filesystem, root = open_filesystem(str(tmp_path / "registry"))
    assert root == str(tmp_path / "registry")
    assert client_errors(filesystem) == ()
    assert not (tmp_path / "registry").exists()


def test_without_the_package_that_speaks_s3_it_is_said_what_to_install() -> None:
    """In a process that cannot import it."""
    program = """
        import sys
        sys.modules["s3fs"] = None
        from attune.domain.errors import ConfigurationInvalid
        from attune.platform.registry.registry import Registry
        try:
            Registry("s3://bucket/prefix")
        except ConfigurationInvalid as error:
            print(error.message)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'attune[s3]'" in ran.stdout
    assert "s3://bucket/prefix" in ran.stdout


def test_a_protocol_that_nobody_speaks_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="carrier-pigeon"):
        open_filesystem("carrier-pigeon://bucket/prefix")
