"""attune feedback: what the commands send, and what they print."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from attune.cli.feedback import feedback
from attune.client.tokens import read_feedback_token
from attune.domain.errors import InvalidInput
from attune.domain.feedback import Comparison, Demonstration, FeedbackEvent, Ranking, Rating
from click.testing import CliRunner
from unit.client.control_servers import running_control_server
from unit.client.servers import SmallServer

GENERATION = "01890a5d-ac96-774b-bcce-b302099a8057"
FIRST, SECOND, THIRD = (f"{GENERATION}/{i}" for i in range(3))


def sent(server: SmallServer) -> FeedbackEvent:
    (event,) = server.feedback.taken.values()
    return event


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rate", FIRST, "0.5"], Rating(FIRST, 0.5)),
        (["compare", SECOND, FIRST], Comparison(SECOND, FIRST)),
        (["rank", SECOND, f"{FIRST},{THIRD}"], Ranking(((SECOND,), (FIRST, THIRD)))),
        (["demonstrate", FIRST, "it should say this"], Demonstration(FIRST, "it should say this")),
    ],
)
def test_feedback_is_given(runner: CliRunner, server: SmallServer, arguments: list[str], said: object) -> None:
    options = ["--subject", "ann", "--source", "thumbs", "--app", "shop", "--feedback-address", server.address]
    done = runner.invoke(feedback, [*arguments, *options])
    assert done.exit_code == 0, done.output
    event = sent(server)
    assert event.feedback == said
    assert (event.subject_id, event.source, event.app_id) == ("ann", "thumbs", "shop")
    assert done.output.strip() == event.event_id


def test_an_event_of_the_same_id_is_told_to_be_known(runner: CliRunner, server: SmallServer) -> None:
    event_id = str(uuid.uuid4())
    arguments = ["rate", FIRST, "1", "--subject", "ann", "--event-id", event_id, "--feedback-address", server.address]
    runner.invoke(feedback, arguments)
    done = runner.invoke(feedback, [*arguments, "--json"])
    assert json.loads(done.stdout)["is_repeat"] is True


def test_a_person_must_be_named(runner: CliRunner) -> None:
    done = runner.invoke(feedback, ["rate", FIRST, "1"])
    assert done.exit_code == 2
    assert "--subject" in done.output


def test_an_event_the_join_does_not_know_is_an_error(runner: CliRunner) -> None:
    with running_control_server() as server:
        done = runner.invoke(feedback, ["show", GENERATION, "--join-address", server.address])
    assert done.exit_code != 0
    assert "not read" in str(done.exception)


def test_a_person_is_erased_after_a_question(runner: CliRunner) -> None:
    with running_control_server() as server:
        arguments = ["erase", "ann", "--app", "shop", "--join-address", server.address]
        assert runner.invoke(feedback, arguments, input="n\n").exit_code == 1
        done = runner.invoke(feedback, [*arguments, "--yes"])
        as_json = runner.invoke(feedback, [*arguments, "--yes", "--json"])
    assert "2 examples" in done.output
    assert "shop/ann" in done.output
    assert "dropped their words by 2026-01-02" in done.output
    assert json.loads(as_json.stdout)["examples_erased"] == 2


@pytest.mark.parametrize(("service", "key"), [("ingest", "queue_events"), ("join", "pending_ttl_s")])
def test_the_services_list_their_settings(runner: CliRunner, service: str, key: str) -> None:
    done = runner.invoke(feedback, [service, "--settings"])
    assert done.exit_code == 0, done.output
    assert key in done.output


@pytest.mark.parametrize("service", ["ingest", "join"])
def test_an_unknown_setting_is_refused(runner: CliRunner, service: str) -> None:
    done = runner.invoke(feedback, [service, "--set", "metrics_prot=1"])
    assert done.exit_code == 2
    assert "did you mean metrics_port" in done.output


@pytest.mark.parametrize("from_file", [True, False])
def test_a_token_is_printed(runner: CliRunner, tmp_path: Path, from_file: bool) -> None:
    secret = "s" * 32
    arguments = ["token", GENERATION, "--subject", "ann", "--app", "shop", "--key-id", "1", "--lifetime", "60"]
    if from_file:
        (tmp_path / "secret").write_text(f"{secret}\n")
        arguments += ["--secret-file", str(tmp_path / "secret")]
    done = runner.invoke(feedback, arguments, env={} if from_file else {"ATTUNE_CLI_TOKEN_SECRET": secret})
    assert done.exit_code == 0, done.output
    token = read_feedback_token(
        done.output.strip(), lambda app, key: secret if (app, key) == ("shop", "1") else None, 60
    )
    assert (token.app_id, token.subject_id, token.generation_id) == ("shop", "ann", GENERATION)


def test_a_token_without_a_secret_is_none(runner: CliRunner) -> None:
    done = runner.invoke(feedback, ["token", GENERATION, "--subject", "ann", "--app", "shop", "--key-id", "1"])
    assert isinstance(done.exception, InvalidInput)
