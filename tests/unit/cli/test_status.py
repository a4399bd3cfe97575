"""attune status: one table of all services, and an exit status that a script can go by."""

from __future__ import annotations

import json

from attune.api.policy.v1 import control_pb2 as policy_pb2
from attune.api.registry.v1 import registry_pb2
from attune.cli.status import status
from click.testing import CliRunner
from unit.client.control_servers import REVISION, SmallModelServer, running_control_server

SERVERS = ("policy-control", "reward-control", "feedback", "join", "trainer")


def test_all_serving(runner: CliRunner) -> None:
    with running_control_server() as server:
        server.set_serving(True)
        where = [part for name in SERVERS for part in (f"--{name}-address", server.address)]
        table = runner.invoke(status, where)
        as_json = runner.invoke(status, [*where, "--json"])
    assert table.exit_code == 0, table.output
    assert "live revision:" in table.output
    assert REVISION in table.output
    assert "…" not in table.output
    assert "lag records: 3" in table.output
    rows = {row["service"]: row for row in json.loads(as_json.stdout)}
    assert [row["error"] for row in rows.values()] == [""] * 5
    assert rows["policy"]["facts"]["live_revision"] == REVISION
    assert rows["feedback join"]["facts"]["states"] == {"JOINED": 11}
    assert rows["trainer"]["facts"]["phase"] == "IDLE"


def test_who_is_away_is_named_and_the_exit_status_says_so(runner: CliRunner) -> None:
    with running_control_server() as server:
        server.set_serving(False)
        where = [part for name in SERVERS[:3] for part in (f"--{name}-address", server.address)]
        away = [part for name in SERVERS[3:] for part in (f"--{name}-address", "127.0.0.1:1")]
        done = runner.invoke(status, [*where, *away, "--json", "--timeout", "0.5"])
    assert done.exit_code == 1
    errors = {row["service"]: row["error"] for row in json.loads(done.stdout)}
    assert errors["policy"] == ""
    assert "NOT_SERVING" in errors["feedback ingest"]
    assert "UNAVAILABLE" in errors["trainer"]


def test_who_waits_for_a_first_revision_does_not_serve(runner: CliRunner) -> None:
    with running_control_server(policy=SmallModelServer(policy_pb2, live_revision="")) as server:
        server.set_serving(True)
        done = runner.invoke(status, [part for name in SERVERS for part in (f"--{name}-address", server.address)])
    assert done.exit_code == 1
    assert "waits for a" in done.output


def test_a_refused_revision_is_shown_with_its_reason(runner: CliRunner) -> None:
    refused = registry_pb2.RefusedRevision(
        revision="policies/support/revisions/8", reason="CHECKPOINT_TRUNCATED", message="cut short"
    )
    with running_control_server(policy=SmallModelServer(policy_pb2, refused=refused)) as server:
        server.set_serving(True)
        where = [part for name in SERVERS for part in (f"--{name}-address", server.address)]
        table = runner.invoke(status, where)
        as_json = runner.invoke(status, [*where, "--json"])
    assert "refused: 8, CHECKPOINT_TRUNCATED" in " ".join(table.output.split())
    told = {row["service"]: row for row in json.loads(as_json.stdout)}["policy"]["facts"]["refused"]
    assert (told["revision"], told["message"]) == ("policies/support/revisions/8", "cut short")
