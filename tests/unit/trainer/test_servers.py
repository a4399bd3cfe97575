"""The other services over gRPC, as the trainer sees them: small real servers on one port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from attune.api.policy.v1 import control_pb2 as policy_pb2
from attune.api.reward.v1 import reward_pb2
from attune.client import Access
from attune.domain.access import Scope
from attune.domain.errors import EpochSuperseded, NoRevision, QueueFull, ServerUnavailable, Unauthenticated
from attune.domain.generations import Purpose, Sampling
from attune.domain.prompts import Prompt
from attune.platform.access.keys import KeyStore, new_key, write_keys
from attune.platform.access.settings import Access as ServerAccess
from attune.trainer.servers import APP_ID, PAIRS_PER_CALL, TRANSIENT, GrpcServers
from unit.client.control_servers import SmallModelServer, running_control_server
from unit.client.servers import SmallServer
from unit.platform.rpc.echo import echo


@pytest.fixture
def small():
    with running_control_server() as server:
        yield server


@asynccontextmanager
async def gathered(small: SmallServer) -> AsyncIterator[GrpcServers]:
    names = ("policy", "policy_control", "reward", "reward_control", "join_control")
    made = GrpcServers(**dict.fromkeys(names, small.address), timeout_s=10.0)
    try:
        yield made
    finally:
        await made.close()


@pytest_asyncio.fixture
async def servers(small: SmallServer) -> AsyncIterator[GrpcServers]:
    async with gathered(small) as made:
        yield made


async def test_a_rollout_is_pinned_seeded_and_never_for_a_user(small: SmallServer, servers: GrpcServers) -> None:
    sampling = Sampling(max_tokens=9, temperature=0.7, seed=5, completions=2)
    generation = await servers.rollout(Prompt.user("hi"), sampling, "policies/support/revisions/3")
    assert len(generation.completions) == 2
    (request,) = small.policy.script.seen
    assert (request.revision, request.purpose, request.app_id) == (
        "policies/support/revisions/3", Purpose.ROLLOUT, "attune.trainer",
    )  # fmt: skip
    asked = request.sampling
    assert (asked.seed, asked.max_tokens, asked.temperature, asked.completions) == (5, 9, 0.7, 2)
    # Said, not left to what the policy server gives users.
    assert asked.HasField("top_p")
    assert asked.HasField("top_k")
    assert (asked.top_p, asked.top_k) == (1.0, 0)


async def test_scores_come_in_order_over_several_calls(small: SmallServer, servers: GrpcServers) -> None:
    pairs = [(Prompt.user("hi"), "x" * (i % 7)) for i in range(PAIRS_PER_CALL + 3)]
    assert await servers.score("rewards/support/revisions/2", pairs) == [len(text) / 2 for _, text in pairs]
    assert [request.revision for request in small.reward.script.seen] == ["rewards/support/revisions/2"] * 2
    assert await servers.score("rewards/support/revisions/2", []) == []


async def test_a_deposed_trainer_is_told(servers: GrpcServers) -> None:
    await servers.load_policy("policies/support/revisions/3", 2)
    await servers.load_reward("rewards/support/revisions/3", 2)
    with pytest.raises(EpochSuperseded):
        await servers.load_policy("policies/support/revisions/3", 1)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda s: s.rollout(Prompt.user("hi"), Sampling(), ""), "policy"),
        (lambda s: s.score("", [(Prompt.user("hi"), "x")]), "reward"),
        (lambda s: s.load_policy("7", 1), "policy"),
        (lambda s: s.load_reward("7", 1), "reward"),
        (lambda s: s.read_examples(0, 0), "join"),
        (lambda s: s.read_prompts(), "join"),
    ],
    ids=["rollout", "score", "load_policy", "load_reward", "read_examples", "read_prompts"],
)
async def test_who_did_not_answer_is_named(ask, name: str) -> None:
    addresses = ("policy", "policy_control", "reward", "reward_control", "join_control")
    away = GrpcServers(**dict.fromkeys(addresses, "127.0.0.1:1"), timeout_s=0.3)
    with pytest.raises(TRANSIENT) as raised:
        await ask(away)
    assert raised.value.metadata["server"] == name
    await away.close()


async def test_a_call_made_for_another_gets_what_is_left_of_its_deadline() -> None:
    policy = SmallModelServer(policy_pb2)
    with running_control_server(policy=policy) as small:
        async with gathered(small) as servers:

            async def promote(request, context) -> reward_pb2.ScoreResponse:
                await servers.load_policy("policies/support/revisions/3", 2)
                return reward_pb2.ScoreResponse()

            async with echo(promote) as running:
                await running.score(4.0)
            await servers.load_policy("policies/support/revisions/3", 2)
    served, own = policy.left_s
    assert served <= 4.1 < own <= 10.1  # gRPC rounds up


async def test_a_page_of_examples_carries_its_cursors(servers: GrpcServers) -> None:
    page = await servers.read_examples(1000, 4)
    assert (page.last_sequence, page.last_removal, page.examples, page.is_last) == (1000, 4, (), True)
    assert not (await servers.read_examples(5, 4)).is_last


@pytest.mark.parametrize("error", [ServerUnavailable("away"), QueueFull("full"), NoRevision("none yet")])
def test_what_passes_is_waited_out(error: Exception) -> None:
    assert isinstance(error, TRANSIENT)


def test_a_deposed_trainer_does_not_wait() -> None:
    assert not isinstance(EpochSuperseded("deposed"), TRANSIENT)


async def test_each_port_is_called_with_the_key_made_for_it(tmp_path: Path) -> None:
    (app_key, app_kept) = new_key(APP_ID, ["generate", "score"])
    write_keys(tmp_path / "keys.json", [app_kept])

    async def one(request, context) -> reward_pb2.ScoreResponse:
        return reward_pb2.ScoreResponse(revision="r", scores=[reward_pb2.Score(raw=1.0, normalised=2.0)])

    names = ("policy", "policy_control", "reward", "reward_control", "join_control")
    async with echo(one, access=ServerAccess(KeyStore(tmp_path / "keys.json")), scope=Scope.SCORE) as running:
        addresses = dict.fromkeys(names, running.server.address)
        app, control = Access(bearer=app_key), Access(bearer="another")
        right = GrpcServers(**addresses, timeout_s=10.0, app_access=app, control_access=control)
        wrong = GrpcServers(**addresses, timeout_s=10.0, app_access=control, control_access=app)
        assert await right.score("r", [(Prompt.user("hi"), "x")]) == [2.0]
        with pytest.raises(Unauthenticated):
            await wrong.score("r", [(Prompt.user("hi"), "x")])
        await right.close()
        await wrong.close()
