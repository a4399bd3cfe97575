"""attune check: what it sends around the loop, and what it says when something does not come back."""

from __future__ import annotations

from typing import Any

from attune.api.feedback.v1 import control_pb2 as feedback_pb2
from attune.cli.check import check
from attune.domain.errors import DeadlineExceeded, ServerUnavailable
from attune.domain.feedback import Comparison, FeedbackState
from click.testing import CliRunner
from unit.client.control_servers import SmallJoin, running_control_server
from unit.client.servers import SmallServer


class ScriptedJoin(SmallJoin):
    """Knows an event after having been asked once; then says `state`."""

    def __init__(self, state: FeedbackState) -> None:
        self.state = state
        self.asked: list[Any] = []
        self.erased: list[Any] = []

    def GetFeedback(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        if len(self.asked) == 1:
            return super().GetFeedback(request, context)
        return feedback_pb2.GetFeedbackResponse(state=int(self.state), reason="because", example_sequence=7)

    def EraseSubject(self, request: Any, context: Any) -> Any:
        self.erased.append(request)
        return super().EraseSubject(request, context)


def arguments(server: SmallServer, join_address: str, *more: str) -> list[str]:
    addresses = [f"--{name}-address={server.address}" for name in ("policy", "reward", "feedback")]
    return [*addresses, f"--join-address={join_address}", "--app", "shop", *more]


def test_a_conversation_goes_around_and_is_taken_back(runner: CliRunner, server: SmallServer) -> None:
    join = ScriptedJoin(FeedbackState.JOINED)
    with running_control_server(join=join) as control:
        done = runner.invoke(check, arguments(server, control.address))
    assert done.exit_code == 0, done.output
    (event,) = server.feedback.taken.values()
    assert isinstance(event.feedback, Comparison)
    assert len(server.reward.script.seen[0].pairs) == 2
    (erased,) = join.erased
    assert (erased.app_id, erased.subject_id) == ("shop", event.subject_id)
    assert "joined as example 7" in done.output


def test_feedback_that_is_not_joined_is_an_error_and_taken_back(runner: CliRunner, server: SmallServer) -> None:
    join = ScriptedJoin(FeedbackState.CONFLICT)
    with running_control_server(join=join) as control:
        done = runner.invoke(check, arguments(server, control.address))
    assert isinstance(done.exception, DeadlineExceeded)
    assert "CONFLICT because" in str(done.exception)
    assert join.erased


def test_feedback_that_stays_pending_is_an_error_in_time(runner: CliRunner, server: SmallServer) -> None:
    join = ScriptedJoin(FeedbackState.PENDING)
    with running_control_server(join=join) as control:
        done = runner.invoke(check, arguments(server, control.address, "--timeout", "0.5"))
    assert "PENDING" in str(done.exception)


def test_services_that_do_not_serve_are_told(runner: CliRunner, server: SmallServer) -> None:
    server.set_serving(False)
    join = ScriptedJoin(FeedbackState.JOINED)
    with running_control_server(join=join) as control:
        done = runner.invoke(check, arguments(server, control.address, "--timeout", "0.2"))
    assert isinstance(done.exception, ServerUnavailable)
    assert not server.feedback.taken
