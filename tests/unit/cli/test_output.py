"""JSON of results."""

from __future__ import annotations

import json

import pytest
from attune.api.feedback.v1 import control_pb2
from attune.api.registry.v1 import registry_pb2
from attune.cli.output import as_dict, print_json, print_move
from attune.domain.times import to_timestamp

MOVE = registry_pb2.AliasMove(alias="stable", revision="policies/a/revisions/1", epoch=3, time=to_timestamp(1.5))


def test_values_are_plain_and_empty_ones_show() -> None:
    said = as_dict(MOVE)
    assert (said["epoch"], said["time"], said["previous_revision"]) == (3, 1.5, "")
    assert as_dict(registry_pb2.AliasMove())["time"] is None
    assert as_dict(registry_pb2.Revision(metrics={"kl": 0.5}, aliases=["stable"]))["metrics"] == {"kl": 0.5}
    count = control_pb2.StateCount(state=control_pb2.FEEDBACK_STATE_JOINED, events=2)
    nested = as_dict(control_pb2.GetStatusResponse(states=[count]))
    assert nested["states"] == [{"state": "FEEDBACK_STATE_JOINED", "events": 2}]


def test_a_move_is_a_line_for_people_or_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_move(MOVE, as_json=False)
    assert capsys.readouterr().out == "stable is policies/a/revisions/1\n"
    later = registry_pb2.AliasMove(alias="stable", revision="7", previous_revision="5")
    print_move(later, as_json=False)
    assert capsys.readouterr().out == "stable is 7 (before: 5)\n"
    print_move(MOVE, as_json=True)
    assert json.loads(capsys.readouterr().out)["revision"] == "policies/a/revisions/1"


def test_json_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": "é"})
    assert capsys.readouterr().out == '{"a": "é"}\n'
