"""The program's own options reach the clients of its commands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from attune.api.policy.v1 import policy_pb2_grpc
from attune.cli.main import attune
from attune.domain.errors import ConfigurationInvalid
from click.testing import CliRunner
from support.certificates import Authority
from unit.client.servers import SmallPolicy


class Seen(SmallPolicy):
    def Generate(self, request, context):
        self.bearer = dict(context.invocation_metadata()).get("authorization")
        return super().Generate(request, context)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def address(authority: Authority, seen: Seen) -> Iterator[str]:
    pair, server = authority.server(), grpc.server(ThreadPoolExecutor(2))
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(seen, server)
    key, chain, clients = pair.key.read_bytes(), pair.certificate.read_bytes(), authority.file.read_bytes()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)], clients, True))
    server.start()
    yield f"127.0.0.1:{port}"
    ended: threading.Event = server.stop(None)
    ended.wait()


def generate(address: str) -> list[str]:
    return ["generate", "hi", "--policy-address", address]


def test_options_before_the_command(
    runner: CliRunner, authority: Authority, address: str, seen: Seen, tmp_path: Path
) -> None:
    client, bearer = authority.client(), tmp_path / "cli.key"
    bearer.write_text("swordfish\n")
    how = ["--tls", "--ca-file", str(authority.file), "--cert-file", str(client.certificate)]
    how += ["--key-file", str(client.key), "--bearer-file", str(bearer)]
    done = runner.invoke(attune, [*how, *generate(address)])
    assert done.exit_code == 0, done.output
    assert seen.bearer == "Bearer swordfish"


def test_the_environment(runner: CliRunner, authority: Authority, address: str, seen: Seen) -> None:
    client = authority.client()
    files = {"CA_FILE": authority.file, "CERT_FILE": client.certificate, "KEY_FILE": client.key}
    environment = {f"ATTUNE_CLI_{name}": str(file) for name, file in files.items()}
    environment |= {"ATTUNE_CLI_TLS": "1", "ATTUNE_CLI_BEARER": "swordfish"}
    done = runner.invoke(attune, generate(address), env=environment)
    assert done.exit_code == 0, done.output
    assert seen.bearer == "Bearer swordfish"


def test_what_does_not_go_together_is_refused(runner: CliRunner) -> None:
    done = runner.invoke(attune, ["--ca-file", "ca.pem", *generate("127.0.0.1:1")])
    assert isinstance(done.exception, ConfigurationInvalid)
