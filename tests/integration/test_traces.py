"""One conversation through real servers in one process, and its traces: from the app's call to the new weights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.client import NO_RETRY, AsyncClient
from attune.domain.access import Scope
from attune.domain.examples import Example
from attune.feedback.ingest.acceptor import Acceptor
from attune.feedback.ingest.intake import Intake
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.servicer import SERVICE, FeedbackServicer
from attune.feedback.join.reading import Reader
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.registry.registry import Registry
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.trainer import policy_step, reward_step
from attune.trainer.examples import Role
from attune.trainer.gates import GateVerdict
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from support.tracing import Spans, links_of, recorded, trace_of, traceparent_of
from support.training import POLICY, REWARD, InProcessServers, open_loop, publish_first, settings
from unit.feedback.join.consuming import Clock, a_consumer, drain
from unit.policy.serving import serving

GENERATE = "attune.api.policy.v1.PolicyService/Generate"
SUBMIT = f"{SERVICE}/SubmitFeedback"
ASKED = "Where is my order 4711?"


@asynccontextmanager
async def ingesting(log: MemoryEventLog) -> AsyncIterator[AsyncClient]:
    """An ingest server, and an app's client of it."""
    metrics = CollectorRegistry()
    async with Acceptor(log.producer(Topic.FEEDBACK)) as acceptor:
        servicer = FeedbackServicer(Intake(acceptor, IngestMetrics(metrics)))
        server = RpcServer(
            {SERVICE: servicer.register}, host="127.0.0.1", port=0, metrics=RpcMetrics(metrics), scope=Scope.FEEDBACK
        )
        await server.start()
        async with AsyncClient(app_id="test", feedback_address=server.address, retry=NO_RETRY) as client:
            yield client
        await server.stop(0)


def accepted(log: MemoryEventLog) -> list[events_pb2.AcceptedFeedback]:
    values = [record.value for record in log.consumer(Topic.FEEDBACK).read(0, 0)]
    return [event for value in values for event in events_pb2.FeedbackBatch.FromString(value).events]


async def converse(folder: Path, spans: Spans, subject_id: str, log: MemoryEventLog) -> None:
    """An app asks, and says in another trace which answer was better."""
    async with serving(folder, log=log) as policy, ingesting(log) as feedback:
        with spans.tracer.start_as_current_span("app asks"):
            result = await policy.client.generate(ASKED, completions=2, subject_id=subject_id)
        with spans.tracer.start_as_current_span("app judges"):
            await feedback.compare(*result.generation.completions, subject_id=subject_id)
    assert result.generation.traceparent == traceparent_of(spans.one("generate"))


async def train(folder: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A reward update and a PPO step on these examples; the gate lets the former pass."""
    monkeypatch.setattr(reward_step, "reward_gate", lambda *_: GateVerdict(True, ()))
    registry = Registry(folder / "registry")
    publish_first(registry, folder / "first")
    servers = InProcessServers(registry, folder / "fetched")
    servers.examples = examples
    loop = open_loop(settings(folder), servers, asyncio.Event())
    await loop._sync()
    await reward_step.run(loop.workspace, 1)
    await policy_step.run(loop.workspace, 2)
    return registry


async def test_from_a_revision_one_finds_the_feedback_and_the_generation_behind_it(
    tmp_path: Path, new_engine: Callable[[str], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = settings(tmp_path).split()
    learnt_from = next(f"user-{n}" for n in range(100) if split.role("test", f"user-{n}") is Role.REWARD)
    log, engine = MemoryEventLog(clock=Clock()), new_engine("join")
    with recorded() as spans:
        await converse(tmp_path / "serving", spans, learnt_from, log)
        drain(a_consumer(log, engine))
        examples = [Example.from_proto(e) for e in Reader(engine).examples(0, 10, 0).examples]
        registry = await train(tmp_path / "training", examples, monkeypatch)

    # What the app was answered is in the app's traces, the generation below the call.
    generate, submit = spans.one("generate"), spans.one(SUBMIT)
    assert trace_of(spans.one("app asks")) == trace_of(spans.one(GENERATE)) == trace_of(generate)
    assert trace_of(spans.one("app judges")) == trace_of(submit) != trace_of(generate)
    assert generate.parent is not None
    assert generate.parent.span_id == spans.one(GENERATE).context.span_id
    assert [event.name for event in generate.events] == ["prefill", "first token"]
    assert generate.attributes is not None
    assert generate.attributes["attune.app_id"] == "test"
    assert generate.attributes["attune.outcome"] == "written"
    assert generate.attributes["attune.revision"] == "policies/support/revisions/1"
    assert len(generate.attributes["gen_ai.response.finish_reasons"]) == 2  # type: ignore[arg-type]

    # The log carries both contexts on, through the join to the trainer.
    both = [traceparent_of(submit), traceparent_of(generate)]
    assert [event.traceparent for event in accepted(log)] == both[:1]
    assert list(examples[0].traceparents) == both
    assert links_of(spans.named("join")[-1]) == both
    update, ppo = spans.one("reward update"), spans.one("policy update")
    assert links_of(update) == both
    assert links_of(ppo) == [traceparent_of(update), *both]

    # And from a revision back.
    assert registry.manifest(REWARD.revision(2)).details["traceparent"] == traceparent_of(update)
    assert registry.manifest(POLICY.revision(2)).details["traceparent"] == traceparent_of(ppo)
    for step, name in ((update, REWARD.revision(2)), (ppo, POLICY.revision(2))):
        parts = [s for s in spans.all() if s.parent and s.parent.span_id == step.context.span_id]
        published = [s for s in parts if s.name == "publish"]
        assert [dict(s.attributes or {}) for s in published] == [{"attune.revision": str(name)}]
    assert "promote" in {s.name for s in spans.all() if trace_of(s) == trace_of(update)}

    said = json.dumps([json.loads(span.to_json()) for span in spans.all()])
    assert learnt_from not in said
    assert "4711" not in said
    assert not any(c.text and len(c.text) > 3 and c.text in said for c in examples[0].completions)


async def test_untraced_nothing_is_written_anywhere(tmp_path: Path) -> None:
    log = MemoryEventLog()
    async with serving(tmp_path, log=log) as policy, ingesting(log) as feedback:
        result = await policy.client.generate(ASKED, completions=2, subject_id="ada")
        await feedback.compare(*result.generation.completions, subject_id="ada")
        assert [g.traceparent for g in policy.recorded()] == [""]
    assert [event.traceparent for event in accepted(log)] == [""]
