"""attune rollback: asked once, whatever comes of it."""

from __future__ import annotations

from attune.cli.rollback import rollback
from attune.domain.errors import ServerUnavailable
from click.testing import CliRunner
from unit.client.control_servers import SmallTrainer, running_control_server


def test_a_lost_answer_is_not_asked_for_again(runner: CliRunner) -> None:
    trainer = SmallTrainer()
    with running_control_server(trainer) as server:
        done = runner.invoke(rollback, ["--model", "rewards/a", "--trainer-address", server.address])
    assert isinstance(done.exception, ServerUnavailable)
    assert trainer.rollbacks == 1
