"""attune generate: what it asks and what it prints."""

from __future__ import annotations

import json

from attune.cli.generate import generate
from attune.domain.errors import PromptTooLong
from attune.domain.prompts import Prompt
from click.testing import CliRunner
from unit.client.servers import REVISION, SmallServer


def test_texts_are_printed(runner: CliRunner, server: SmallServer) -> None:
    done = runner.invoke(generate, ["Hello", "--completions", "2", "--policy-address", server.address])
    assert done.exit_code == 0, done.output
    assert "one\n" in done.output
    assert "two\n" in done.output
    assert REVISION in done.output


def test_json_is_one_last_line(runner: CliRunner, server: SmallServer) -> None:
    arguments = ["Hello", "--json", "--revision", "7", "--seed", "3", "--stop", "x", "--subject", "ana", "--text"]
    done = runner.invoke(generate, [*arguments, "--policy-address", server.address])
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["recorded"] is True
    assert said["completions"][0]["text"] == "one"
    (request,) = server.policy.script.seen
    assert (request.revision, request.sampling.seed, list(request.sampling.stop)) == ("7", 3, ["x"])
    assert (request.app_id, request.subject_id) == ("cli", "ana")
    assert Prompt.from_proto(request.prompt) == Prompt(text="Hello")


def test_a_stream_is_printed_as_it_comes_and_only_once(runner: CliRunner, server: SmallServer) -> None:
    done = runner.invoke(generate, ["Hello", "--stream", "--policy-address", server.address])
    assert done.output.splitlines()[0] == "one"
    assert done.output.count("one") == 1
    assert "not recorded" in done.output


def test_errors_rise_to_the_program(runner: CliRunner, server: SmallServer) -> None:
    server.policy.script.errors = [PromptTooLong("too long")]
    done = runner.invoke(generate, ["Hello", "--policy-address", server.address])
    assert isinstance(done.exception, PromptTooLong)
