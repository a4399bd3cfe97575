"""attune pause, resume and watch: what they ask of the trainer, and what they print."""

from __future__ import annotations

import json

from attune.cli.training import pause, resume, watch
from click.testing import CliRunner
from unit.client.control_servers import SmallTrainer, running_control_server


def test_the_trainer_is_held_and_let_go(runner: CliRunner) -> None:
    trainer = SmallTrainer()
    with running_control_server(trainer) as server:
        where = ["--trainer-address", server.address]
        held = runner.invoke(pause, ["--reason", "a look", *where])
        assert trainer.pauses == ["a look"]
        went_on = runner.invoke(resume, where)
    assert (held.exit_code, went_on.exit_code) == (0, 0), held.output + went_on.output
    assert "attune resume" in held.output
    assert trainer.pauses == []


def test_happenings_are_lines_for_people_or_of_json(runner: CliRunner) -> None:
    with running_control_server() as server:
        where = ["--trainer-address", server.address]
        lines = runner.invoke(watch, where).output.splitlines()
        as_json = [json.loads(line) for line in runner.invoke(watch, [*where, "--json"]).stdout.splitlines()]
    assert [line.partition("  ")[2] for line in lines] == [
        "step 1  policy promoted  policies/support/revisions/2  win_rate 0.625",
        "step 2  policy rejected  policies/support/revisions/3  KL exceeded  win_rate 0.25",
    ]
    assert [h["event"] for h in as_json] == ["TRAINER_EVENT_POLICY_PROMOTED", "TRAINER_EVENT_POLICY_REJECTED"]
    assert as_json[0]["metrics"] == {"win_rate": 0.625, "ratio_max": 1.0}


def test_a_watch_that_a_deadline_cut_goes_on(runner: CliRunner) -> None:
    trainer = SmallTrainer()
    trainer.watches_cut = 2
    with running_control_server(trainer) as server:
        done = runner.invoke(watch, ["--trainer-address", server.address])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 2
