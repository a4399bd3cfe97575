"""The blocking client against small real servers."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from attune.client import Client, Delta, GenerationResult, Message, Prompt, Purpose, Receipt, Timeouts, new_event
from attune.domain.errors import (
    ConfigurationInvalid,
    DeadlineExceeded,
    EventLogUnavailable,
    GenerationIdReused,
    InvalidInput,
    NoRevision,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)
from attune.domain.feedback import Comparison, Demonstration, Ranking, Rating
from unit.client.servers import QUICK, SmallServer

G = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def client(server: SmallServer) -> Iterator[Client]:
    where = {f"{name}_address": server.address for name in ("policy", "feedback", "reward")}
    with Client(app_id="shop", retry=QUICK, **where) as made:
        yield made


def test_generate_sends_what_was_asked_and_leaves_the_rest_to_the_server(client: Client, server: SmallServer) -> None:
    result = client.generate("Where is it?", completions=2, top_k=0, stop=["\n"], subject_id="ana", revision="canary")
    (request,) = server.policy.script.seen
    assert request.app_id == "shop"
    assert request.subject_id == "ana"
    assert request.revision == "canary"
    assert request.sampling.HasField("top_k")
    assert not request.sampling.HasField("temperature")
    assert list(request.sampling.stop) == ["\n"]
    assert uuid.UUID(request.generation_id).version == 7
    assert result.recorded
    assert result.texts == ("one", "two")
    assert result.generation.prompt == Prompt.user("Where is it?")
    assert result.generation.purpose is Purpose.USER


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(text="Once upon"),
        Prompt.user("Hello"),
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        [Message("user", "Hi")],
    ],
)
def test_prompts_come_in_several_forms(client: Client, prompt: object) -> None:
    result = client.generate(prompt)  # type: ignore[arg-type]
    assert result.generation.prompt.as_chat() == (prompt.as_chat() if isinstance(prompt, Prompt) else _chat(prompt))


def _chat(messages: object) -> list[dict[str, str]]:
    return [m if isinstance(m, dict) else {"role": m.role, "content": m.content} for m in messages]  # type: ignore[attr-defined]


def test_a_retried_generation_draws_a_new_id(client: Client, server: SmallServer) -> None:
    server.policy.script.errors = [NoRevision("not yet"), QueueFull("full", retry_after_s=0.001)]
    result = client.generate("Hello")
    ids = [request.generation_id for request in server.policy.script.seen]
    assert len(set(ids)) == 3
    assert result.generation.id == ids[-1]


def test_a_chosen_generation_id_is_kept_over_retries(client: Client, server: SmallServer) -> None:
    server.policy.script.errors = [NoRevision("lost"), GenerationIdReused("used")]
    with pytest.raises(GenerationIdReused):
        client.generate("Hello", generation_id=G)
    assert [request.generation_id for request in server.policy.script.seen] == [G, G]


@pytest.mark.parametrize("error", [QueueFull("full"), PromptTooLong("long", metadata={"tokens": "900"})])
def test_what_repetition_cannot_mend_is_raised_at_once(client: Client, server: SmallServer, error: Exception) -> None:
    server.policy.script.errors = [error]  # type: ignore[list-item]
    with pytest.raises(type(error)) as raised:
        client.generate("Hello")
    assert len(server.policy.script.seen) == 1
    assert raised.value.metadata == error.metadata  # type: ignore[attr-defined]


def test_attempts_are_bounded(client: Client, server: SmallServer) -> None:
    server.policy.script.errors = [NoRevision("nothing yet")] * 9
    with pytest.raises(NoRevision):
        client.generate("Hello")
    assert len(server.policy.script.seen) == QUICK.attempts


def test_violations_come_back(client: Client, server: SmallServer) -> None:
    server.policy.script.errors = [InvalidInput.field("sampling.top_p", "must be in (0, 1]")]
    with pytest.raises(InvalidInput) as raised:
        client.generate("Hello", top_p=7)
    assert raised.value.violations[0].field == "sampling.top_p"


def test_stream_gives_deltas_and_the_whole_at_the_end(client: Client, server: SmallServer) -> None:
    server.policy.script.errors = [NoRevision("not yet")]
    *deltas, last = client.stream("Hello")
    assert "".join(d.text for d in deltas if isinstance(d, Delta)) == "one"
    assert isinstance(last, GenerationResult)
    assert not last.recorded


def test_a_stream_that_has_begun_is_not_begun_again(client: Client, server: SmallServer) -> None:
    server.policy.fail_after_deltas = EventLogUnavailable("gone")
    stream = client.stream("Hello")
    assert isinstance(next(stream), Delta)
    with pytest.raises(EventLogUnavailable):
        list(stream)
    assert len(server.policy.script.seen) == 1


def test_leaving_a_stream_cancels_it(client: Client, server: SmallServer) -> None:
    server.policy.hang_after_deltas = True
    stream = client.stream("Hello")
    next(stream)
    stream.close()
    assert server.policy.cancelled.wait(10)


def test_a_deadline_bounds_the_call(client: Client, server: SmallServer) -> None:
    server.policy.hang_after_deltas = True
    with pytest.raises(DeadlineExceeded):
        list(client.stream("Hello", timeout_s=0.2))


def test_scores_keep_the_order_of_pairs(client: Client) -> None:
    scores = client.score([("Q", "abcd"), (Prompt(text="Q"), "ab")], revision="rewards/support/revisions/2")
    assert scores.raw == (4, 2)
    assert scores.normalised == (2, 1)
    assert scores.revision == "rewards/support/revisions/2"


def test_each_kind_of_feedback_arrives(client: Client, server: SmallServer) -> None:
    completions = client.generate("Hello", completions=3).generation.completions
    a, b, c = (completion.id for completion in completions)
    client.rate(completions[0], 1, subject_id="ana", source="thumbs")
    client.compare(completions[1], c, subject_id="ana")
    client.rank([completions[2], [a, completions[1]]], subject_id="ana")
    receipt = client.demonstrate(b, "Better.", subject_id="ana", event_id=G)
    assert receipt == Receipt(G, 2.5, is_repeat=False)
    said = [event.feedback for event in server.feedback.taken.values()]
    assert said == [Rating(a, 1), Comparison(b, c), Ranking(((c,), (a, b))), Demonstration(b, "Better.")]
    first = next(iter(server.feedback.taken.values()))
    assert (first.app_id, first.subject_id, first.source) == ("shop", "ana", "thumbs")
    assert first.occurred_time > 1.7e9


def test_feedback_whose_answer_was_lost_is_sent_again_under_its_id(client: Client, server: SmallServer) -> None:
    server.feedback.script.errors = [EventLogUnavailable("after the write"), EventLogUnavailable("again")]
    receipt = client.rate(f"{G}/0", 1, subject_id="ana")
    assert receipt.is_repeat
    assert len(server.feedback.taken) == 1
    assert len(server.feedback.script.seen) == 3


def test_ingest_answers_for_each_event_in_order(client: Client, server: SmallServer) -> None:
    good = [new_event("shop", Rating(f"{G}/{i % 64}", 0.5), subject_id="ana") for i in range(1500)]
    bad = new_event("shop", Rating(f"{G}/0", 3), subject_id="ana")
    results = client.ingest([*good, bad])
    assert [r.event_id for r in results[:-1] if isinstance(r, Receipt)] == [e.event_id for e in good]
    assert isinstance(results[-1], InvalidInput)
    assert [len(request.events) for request in server.feedback.script.seen] == [1000, 501]


def test_a_method_without_its_server_says_so(server: SmallServer) -> None:
    with (
        Client(app_id="shop", policy_address=server.address) as client,
        pytest.raises(ConfigurationInvalid, match="feedback_address"),
    ):
        client.rate(f"{G}/0", 1, subject_id="ana")


def test_no_server_is_server_unavailable() -> None:
    with (
        Client(app_id="shop", policy_address="127.0.0.1:1", timeouts=Timeouts(generate_s=2), retry=QUICK) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.generate("Hello")


def test_waiting_until_serving(client: Client, server: SmallServer) -> None:
    server.set_serving(False)
    with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
        client.wait_until_serving(timeout_s=0.05)
    server.set_serving(True)
    client.wait_until_serving(timeout_s=10)


def test_importing_the_client_loads_no_servers_parts() -> None:
    heavy = ["torch", "transformers", "numpy", "pydantic", "prometheus_client", "sqlalchemy", "attune.platform"]
    code = f"import sys, attune.client, attune.client.control; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
