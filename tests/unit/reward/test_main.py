"""The reward server whole: waits without a revision, serves once stable names one, drains on a stop."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attune.client import NO_RETRY, Access, AsyncClient, Prompt
from attune.client.control import AsyncRewardControlClient
from attune.domain.errors import InvalidInput, NoRevision, PermissionDenied, ServerUnavailable, Unauthenticated
from attune.domain.revisions import ModelName
from attune.platform.access.keys import new_key, write_keys
from attune.platform.config import AppPort, ControlPort
from attune.platform.registry.registry import Registry
from attune.reward.config import RewardSettings
from attune.reward.main import APP_SERVICE, main
from support.processes import free_port
from support.reflection import listed_services
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

MODEL = ModelName("rewards", "support")
PAIR = (Prompt.user("Where is my order?"), "On its way.")


def settings_in(folder: Path, **more: Any) -> RewardSettings:
    return RewardSettings(
        registry=str(folder / "registry"),
        cache_folder=str(folder / "cache"),
        app=AppPort(port=free_port()),
        control=ControlPort(port=free_port()),
        metrics_port=0,
        device="cpu",
        poll_interval_s=0.02,
        **more,
    )


def publish_stable(registry: Registry, folder: Path) -> None:
    epoch = registry.take_epoch([MODEL], "test")
    registry.publish(MODEL.revision(1), folder, epoch=epoch)
    registry.move_alias(MODEL, "stable", 1, epoch=epoch, actor="test", reason="")


async def test_from_an_empty_registry_to_scores_and_a_stop(
    tmp_path: Path, tiny_reward: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune.reward.main.set_up_logging", lambda level: caplog.set_level(logging.INFO))
    settings = settings_in(tmp_path)
    stop = asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    address = f"127.0.0.1:{settings.app.port}"
    control_address = f"127.0.0.1:{settings.control.port}"
    async with (
        AsyncClient(app_id="test", reward_address=address, retry=NO_RETRY) as client,
        AsyncRewardControlClient(control_address, NO_RETRY) as control,
    ):
        await control.wait_until_serving(30)
        assert {APP_SERVICE, "inference.GRPCInferenceService"} < await listed_services(address)
        with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
            await client.wait_until_serving(0.05)
        with pytest.raises(NoRevision):
            await client.score([PAIR])
        publish_stable(Registry(settings.registry), tiny_reward)
        await client.wait_until_serving(30)
        assert "attune reward-model --publish rewards/support" in caplog.text
        scored = await client.score([PAIR] * 3)
        assert scored.revision == "rewards/support/revisions/1"
        assert scored.raw[0] == pytest.approx(scored.raw[2])
        assert scored.normalised[0] == pytest.approx((scored.raw[0] - 0.25) / 2, abs=1e-5)
        with pytest.raises(InvalidInput) as raised:
            await client.score([])
        assert raised.value.violations[0].field == "pairs"
        await control.pause("so that a call is running at the stop")
        running = asyncio.create_task(client.score([PAIR]))
        async with asyncio.timeout(10):
            while not (await control.status()).queued_pairs:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await control.resume()
        stop.set()
        assert (await running).raw[0] == pytest.approx(scored.raw[0], abs=1e-5)
        await process


async def test_both_doors_take_a_key_for_scoring(
    tmp_path: Path, tiny_reward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune.reward.main.set_up_logging", lambda level: None)
    (scorer, scorer_kept), (writer, writer_kept) = new_key("shop", ["score"]), new_key("shop", ["generate"])
    write_keys(tmp_path / "keys.json", [scorer_kept, writer_kept])
    settings, stop = settings_in(tmp_path, keys_file=str(tmp_path / "keys.json")), asyncio.Event()
    publish_stable(Registry(settings.registry), tiny_reward)
    process = asyncio.create_task(main(settings, stop))
    address = f"127.0.0.1:{settings.app.port}"
    async with (
        AsyncClient(app_id="shop", reward_address=address, retry=NO_RETRY, access=Access(bearer=scorer)) as right,
        AsyncClient(app_id="shop", reward_address=address, retry=NO_RETRY, access=Access(bearer=writer)) as wrong,
        AsyncClient(app_id="shop", reward_address=address, retry=NO_RETRY) as keyless,
        InferenceServerClient(address) as triton,
    ):
        await right.wait_until_serving(30)
        scored = await right.score([PAIR])
        for client, error in ((wrong, PermissionDenied), (keyless, Unauthenticated)):
            with pytest.raises(error):
                await client.score([PAIR])
        inputs = [text("messages", '[{"role": "user", "content": "Where is my order?"}]'), text("completion", PAIR[1])]
        result = await triton.infer("support", inputs, headers={"authorization": f"Bearer {scorer}"})
        assert result.as_numpy("raw_score") == pytest.approx(scored.raw, abs=1e-5)
        for bearer, status in ((writer, "PERMISSION_DENIED"), ("none", "UNAUTHENTICATED")):
            with pytest.raises(InferenceServerException) as raised:
                await triton.infer("support", inputs, headers={"authorization": f"Bearer {bearer}"})
            assert raised.value.status() == f"StatusCode.{status}"
    stop.set()
    await process


def text(name: str, value: str) -> InferInput:
    return InferInput(name, [1], "BYTES").set_data_from_numpy(np.array([value.encode()], dtype=np.object_))
