"""Plain arguments become requests: forms of prompts and completions, options, ids."""

from __future__ import annotations

import pytest
from attune.client.requests import (
    MAX_EVENTS_PER_CALL,
    comparison,
    generate,
    generate_request,
    give,
    ingest,
    named,
    new_event,
    prompt_of,
    ranking,
    rating,
)
from attune.domain.errors import ConfigurationInvalid
from attune.domain.feedback import Comparison, FeedbackEvent, Ranking, Rating
from attune.domain.generations import Completion, FinishReason, GenerateRequest, Purpose
from attune.domain.prompts import Message, Prompt

G = "01890a5d-ac96-774b-bcce-b302099a8057"
COMPLETION = Completion(f"{G}/0", "text", (), (), FinishReason.EOS, ())


def test_prompt_forms() -> None:
    turns = Prompt(messages=(Message("system", "Be kind."), Message("user", "Hi")))
    assert prompt_of("Hi") == Prompt.user("Hi")
    assert prompt_of(Prompt(text="Hi")) == Prompt(text="Hi")
    assert prompt_of([{"role": "system", "content": "Be kind."}, Message("user", "Hi")]) == turns


def test_all_options_arrive() -> None:
    request = generate_request(
        "shop",
        "Hi",
        {
            "completions": 3,
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 4,
            "seed": 2**63,
            "stop": ["a"],
            "revision": "7",
            "purpose": Purpose.USER,
            "subject_id": "ana",
            "generation_id": G,
        },
    )
    asked = GenerateRequest.from_proto(request)
    s = asked.sampling
    assert (s.completions, s.max_tokens, s.temperature, s.top_p, s.top_k, s.seed, s.stop) == (
        3,
        9,
        0.5,
        0.9,
        4,
        2**63,
        ("a",),
    )
    assert (asked.revision, asked.subject_id, asked.generation_id) == ("7", "ana", G)


def test_a_call_without_id_draws_one_for_each_attempt() -> None:
    call = generate("shop", "Hi", {}, 5)
    assert call.make_request().generation_id != call.make_request().generation_id
    assert generate("shop", "Hi", {"timeout_s": 2}, 5).timeout_s == 2
    assert generate("shop", "Hi", {"timeout_s": None}, 5).timeout_s == 5


def test_an_event_keeps_its_id_over_attempts() -> None:
    call = give("shop", Rating(f"{G}/0", 1), {"subject_id": "ana"}, 5)
    assert call.make_request() == call.make_request()
    assert FeedbackEvent.from_proto(call.make_request().event).subject_id == "ana"


def test_completions_are_named_by_themselves_or_their_id() -> None:
    other = f"{G}/1"
    assert rating(COMPLETION, True) == Rating(COMPLETION.id, 1.0)
    assert comparison(other, COMPLETION) == Comparison(other, COMPLETION.id)
    assert ranking([COMPLETION, [other, f"{G}/2"]]) == Ranking(((COMPLETION.id,), (other, f"{G}/2")))


@pytest.mark.parametrize(("events", "sizes"), [(0, []), (1, [1]), (1000, [1000]), (1001, [1000, 1])])
def test_events_are_cut_to_the_servers_limit(events: int, sizes: list[int]) -> None:
    event = new_event("shop", Rating(f"{G}/0", 1), subject_id="ana")
    assert [len(call.make_request().events) for call in ingest([event] * events, None, 5)] == sizes
    assert MAX_EVENTS_PER_CALL == 1000


def test_a_missing_server_is_named() -> None:
    with pytest.raises(ConfigurationInvalid, match="reward_address"):
        named({}, "reward")
