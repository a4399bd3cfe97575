"""A policy server without its process: registry, log, engine, writer and gRPC on a free port, models of two layers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from attune.api.events.v1 import events_pb2
from attune.api.policy.v1 import control_pb2_grpc, policy_pb2_grpc
from attune.client import NO_RETRY, AsyncClient
from attune.domain.access import Scope
from attune.domain.generations import Generation, Sampling
from attune.domain.revisions import ModelName
from attune.modeling.loading import LoadedPolicy
from attune.modeling.logprobs import token_logprobs
from attune.platform.access.settings import OPEN, Access
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.inference.servicer import InferenceServicer
from attune.platform.registry.registry import Registry
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.policy.control import PolicyControlServicer
from attune.policy.engine import Engine
from attune.policy.inference import PolicyInference
from attune.policy.jobs import EngineLimits
from attune.policy.metrics import PolicyMetrics
from attune.policy.recorder import Recorder
from attune.policy.revisions import policy_revisions
from attune.policy.servicer import PolicyServicer
from attune.policy.writer import Writer
from prometheus_client import CollectorRegistry
from tiny_models import tiny_policy_folder

MODEL = ModelName("policies", "support")


class Shop:
    """A registry whose stable is moved as a trainer would, and a server's view of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry(folder / "registry")
        self.epoch = self.registry.take_epoch([MODEL], "test")
        self.measured = CollectorRegistry()
        self.metrics = PolicyMetrics(self.measured)
        self.went_live: list[str] = []
        self.revisions = policy_revisions(
            self.registry, MODEL, cache=folder / "cache", metrics=self.metrics, on_live=self._note_live
        )

    async def _note_live(self) -> None:
        self.went_live.append(self.revisions.loaded.live)

    def publish(self, spoil: Callable[[Path], None] | None = None, family: str = "llama") -> str:
        """A new revision with weights of its own, spoilt if asked for; its full name."""
        name = MODEL.revision(self.registry.next_number(MODEL))
        candidate = tiny_policy_folder(self.folder / f"candidate-{name.number}", family, seed=name.number)
        if spoil:
            spoil(candidate)
        self.registry.publish(name, candidate, epoch=self.epoch)
        shutil.rmtree(candidate)
        return str(name)

    async def promote(self, name: str) -> None:
        number = int(name.rpartition("/")[2])
        record = self.registry.move_alias(MODEL, "stable", number, epoch=self.epoch, actor="test", reason="")
        await self.revisions.follow(record)

    def sample(self, name: str, **labels: str) -> float:
        return self.measured.get_sample_value(name, labels) or 0.0


@dataclass
class Server:
    """What a test may look at and talk to."""

    shop: Shop
    engine: Engine
    recorder: Recorder
    writer: Writer
    log: MemoryEventLog
    client: AsyncClient
    address: str
    control_address: str
    hints: list[int]

    def recorded(self) -> list[Generation]:
        """All generations on the event log."""
        consumer = self.log.consumer(Topic.GENERATIONS)
        values = [record.value for record in consumer.read(0, 0)]
        return [Generation.from_proto(g) for v in values for g in events_pb2.GenerationBatch.FromString(v).generations]


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    limits: EngineLimits | None = None,
    log: MemoryEventLog | None = None,
    family: str = "llama",
    access: Access = OPEN,
) -> AsyncIterator[Server]:
    """A server whose revision 1 is live; `access` is asked for at its app port."""
    shop, log = Shop(folder), log or MemoryEventLog()
    await shop.promote(shop.publish(family=family))
    engine = Engine(limits or EngineLimits(), shop.metrics)
    with Recorder(log.producer(Topic.GENERATIONS), shop.metrics) as recorder:
        writer = Writer(shop.revisions.loaded, engine, recorder, shop.metrics)
        servicer = PolicyServicer(writer, Sampling(max_tokens=12))
        inference = PolicyInference("support", writer, Sampling(max_tokens=12), "default")
        hints: list[int] = []
        control_servicer = PolicyControlServicer(engine, shop.revisions, lambda: hints.append(1))
        app = RpcServer(
            {
                "app": lambda server: policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server),
                "inference": InferenceServicer(inference, shop.revisions.loaded).register,
            },
            host="127.0.0.1",
            port=0,
            metrics=RpcMetrics(shop.measured),
            access=access,
            scope=Scope.GENERATE,
        )
        control = RpcServer(
            {
                "control": lambda server: control_pb2_grpc.add_PolicyControlServiceServicer_to_server(
                    control_servicer, server
                )
            },
            host="127.0.0.1",
            port=0,
            metrics=RpcMetrics(CollectorRegistry()),
        )
        await app.start()
        await control.start()
        decoding = asyncio.create_task(engine.run())
        client = AsyncClient(app_id="test", policy_address=app.address, retry=NO_RETRY)
        try:
            yield Server(shop, engine, recorder, writer, log, client, app.address, control.address, hints)
        finally:
            await client.close()
            await app.stop(0)
            await control.stop(0)
            decoding.cancel()
            await asyncio.gather(decoding, return_exceptions=True)


def recomputed(policy: LoadedPolicy, generation: Generation, index: int = 0) -> list[float]:
    """Log-probabilities of a completion's tokens by one plain forward of the whole sequence."""
    completion = generation.completions[index]
    ids = torch.tensor([[*generation.prompt_token_ids, *completion.token_ids]])
    with torch.inference_mode():
        logits = policy.model(input_ids=ids).logits
    found = token_logprobs(logits[:, :-1], ids[:, 1:], generation.sampling.temperature)[0]
    return found[len(generation.prompt_token_ids) - 1 :].tolist()
