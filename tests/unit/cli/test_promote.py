"""attune promote: what it asks of the trainer."""

from __future__ import annotations

import json

from attune.cli.promote import promote
from click.testing import CliRunner
from unit.client.control_servers import running_control_server


def test_a_move_is_asked_for_and_printed(runner: CliRunner) -> None:
    with running_control_server() as server:
        arguments = ["7", "--reason", "better", "--actor", "ana", "--json", "--trainer-address", server.address]
        done = runner.invoke(promote, arguments)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["revision"], said["actor"], said["reason"]) == ("7", "ana", "better")
