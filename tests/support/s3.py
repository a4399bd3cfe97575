"""A real S3 server for tests: a process of its own on loopback, which any S3 client can call. See s3_server.py."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broker import free_ports
from support.eventually import eventually_sync

START_S = 60.0
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # a wrong key is found out at once, without asking the machine's cloud
}
"""What a client finds its credentials in; `AWS_ENDPOINT_URL` is added for each server."""


class S3Server:
    """A running server. It takes any credentials."""

    def __init__(self, log: Path) -> None:
        port = free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": self.endpoint}
        self._log = log
        command = [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(port)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(os.environ))
        eventually_sync(self._answers, START_S)

    def new_bucket(self) -> str:
        """The name of a bucket that nobody else uses."""
        name = f"bucket-{uuid.uuid4().hex}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=START_S):
            return name

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=START_S):
                return True
        except urllib.error.URLError:
            return False


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder / "s3.log")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server a test process."""
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, named in this test's environment together with credentials."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
