"""Generations and requests: round trips, and every refusal by field."""

from __future__ import annotations

import pytest
from attune.api.types.v1 import generations_pb2
from attune.domain.errors import InvalidInput
from attune.domain.generations import Completion, GenerateRequest, Generation, Purpose, Sampling, checked_name
from attune.domain.prompts import Prompt
from hypothesis import given
from unit.domain.made import generate_requests, generations, samplings


@given(generations())
def test_a_generation_comes_back_whole(generation: Generation) -> None:
    assert Generation.from_proto(generation.to_proto()) == generation


@given(generate_requests())
def test_a_request_comes_back_whole(request: GenerateRequest) -> None:
    assert GenerateRequest.from_proto(request.to_proto()) == request


@given(samplings)
def test_sampling_comes_back_whole(sampling: Sampling) -> None:
    assert Sampling.from_proto(sampling.to_proto()) == sampling


def test_absent_fields_take_the_servers_defaults() -> None:
    defaults = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, completions=3)
    assert Sampling.from_proto(generations_pb2.SamplingParameters(), defaults) == defaults
    given_one = generations_pb2.SamplingParameters(temperature=1.0)
    assert Sampling.from_proto(given_one, defaults).temperature == 1.0


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"temperature": 0.0}, ["temperature"]),
        ({"temperature": float("inf")}, ["temperature"]),
        ({"temperature": float("nan")}, ["temperature"]),
        ({"top_p": 0.0}, ["top_p"]),
        ({"top_p": 1.01}, ["top_p"]),
        ({"completions": 0}, ["completions"]),
        ({"completions": 65}, ["completions"]),
        ({"stop": ["a", ""]}, ["stop"]),
        ({"stop": ["a"] * 17}, ["stop"]),
        ({"max_tokens": 0, "top_p": 2.0}, ["max_tokens", "top_p"]),
    ],
)
def test_sampling_out_of_range_is_refused_with_every_field(fields: dict, bad: list[str]) -> None:
    with pytest.raises(InvalidInput) as raised:
        Sampling.from_proto(generations_pb2.SamplingParameters(**fields))
    assert [v.field for v in raised.value.violations] == [f"sampling.{name}" for name in bad]


@pytest.mark.parametrize("sampling", [Sampling(top_p=0.99), Sampling(top_k=5)])
def test_a_rollout_draws_from_the_full_distribution(sampling: Sampling) -> None:
    request = GenerateRequest("app", Prompt.user("hi"), sampling, purpose=Purpose.ROLLOUT)
    with pytest.raises(InvalidInput, match="full distribution"):
        GenerateRequest.from_proto(request.to_proto())


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"app_id": ""}, "app_id"), ({"app_id": "a\nb"}, "app_id"), ({"generation_id": "x"}, "generation_id")],
)
def test_a_bad_request_is_refused(changes: dict, field: str) -> None:
    proto = GenerateRequest("app", Prompt.user("hi"), Sampling()).to_proto()
    for name, value in changes.items():
        setattr(proto, name, value)
    with pytest.raises(InvalidInput) as raised:
        GenerateRequest.from_proto(proto)
    assert [v.field for v in raised.value.violations] == [field]


def test_an_unknown_purpose_or_reason_is_refused_by_field() -> None:
    request = GenerateRequest("app", Prompt.user("hi"), Sampling()).to_proto()
    request.purpose = 9  # type: ignore[assignment]
    completion = generations_pb2.Completion(finish_reason=9)  # type: ignore[arg-type]
    for read, proto, field in (
        (GenerateRequest.from_proto, request, "purpose"),
        (Completion.from_proto, completion, "finish_reason"),
    ):
        with pytest.raises(InvalidInput) as raised:
            read(proto)
        assert [v.field for v in raised.value.violations] == [field]


@given(generations())
def test_completion_ids_follow_from_the_generation(generation: Generation) -> None:
    proto = generation.to_proto()
    proto.completions[-1].id = f"{generation.id}/63"
    with pytest.raises(InvalidInput):
        Generation.from_proto(proto)


def test_names_are_short_and_printable() -> None:
    assert checked_name("Ärzte-app 1", "app_id") == "Ärzte-app 1"
    for bad in ("", "x" * 201, "tab\there"):
        with pytest.raises(InvalidInput):
            checked_name(bad, "app_id")
