"""The policy server whole: waits without a revision, serves once stable names one, drains on a stop."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from attune.client import NO_RETRY, Access, AsyncClient
from attune.client.control import AsyncPolicyControlClient
from attune.domain.errors import AttuneError, NoRevision, PermissionDenied, ServerUnavailable, Unauthenticated
from attune.platform.access.keys import new_key, write_keys
from attune.platform.access.settings import TlsSettings
from attune.platform.config import AppPort, ControlPort
from attune.platform.registry.registry import Registry
from attune.policy.config import HttpSettings, PolicySettings
from attune.policy.main import APP_SERVICE, CONTROL_SERVICE, main
from openai import AsyncOpenAI, AuthenticationError, DefaultAsyncHttpxClient, PermissionDeniedError
from support.certificates import Authority
from support.processes import free_port
from support.reflection import listed_services
from tiny_models import tiny_policy_folder
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException
from unit.policy.serving import MODEL


def settings_in(folder: Path, poll_interval_s: float, **more: Any) -> PolicySettings:
    return PolicySettings(
        registry=str(folder / "registry"),
        cache_folder=str(folder / "cache"),
        events_folder=str(folder / "events"),
        app=AppPort(port=free_port()),
        control=ControlPort(port=free_port()),
        metrics_port=0,
        device="cpu",
        poll_interval_s=poll_interval_s,
        **more,
    )


def publish_stable(registry: Registry, number: int, folder: Path) -> None:
    epoch = registry.take_epoch([MODEL], "test")
    registry.publish(MODEL.revision(number), tiny_policy_folder(folder, seed=number), epoch=epoch)
    registry.move_alias(MODEL, "stable", number, epoch=epoch, actor="test", reason="")


async def test_a_preload_makes_it_look_at_the_aliases_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: None)
    settings, stop = settings_in(tmp_path, poll_interval_s=3600.0), asyncio.Event()
    publish_stable(Registry(settings.registry), 1, tmp_path / "one")
    process = asyncio.create_task(main(settings, stop))
    async with AsyncPolicyControlClient(f"127.0.0.1:{settings.control.port}", NO_RETRY) as control:
        await control.wait_until_serving(30)
        publish_stable(Registry(settings.registry), 2, tmp_path / "two")
        await control.load_revision(str(MODEL.revision(2)))
        async with asyncio.timeout(30):
            while (await control.status()).live_revision != str(MODEL.revision(2)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    stop.set()
    await process


async def test_app_and_control_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: None)
    settings, stop = settings_in(tmp_path, poll_interval_s=1.0), asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    app, control = f"127.0.0.1:{settings.app.port}", f"127.0.0.1:{settings.control.port}"
    async with (
        AsyncPolicyControlClient(control, NO_RETRY) as right,
        AsyncPolicyControlClient(app, NO_RETRY) as wrong,
        AsyncClient(app_id="test", policy_address=control, retry=NO_RETRY) as client,
    ):
        await right.wait_until_serving(30)
        with pytest.raises(AttuneError, match="UNIMPLEMENTED"):
            await wrong.pause("from outside")
        with pytest.raises(AttuneError, match="UNIMPLEMENTED"):
            await client.generate("hello")
        assert not (await right.status()).paused
        on_app, on_control = await listed_services(app), await listed_services(control)
    every = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert on_app == {APP_SERVICE, "inference.GRPCInferenceService"} | every
    assert on_control == {CONTROL_SERVICE} | every
    stop.set()
    await process


async def test_the_http_door_opens_where_it_has_a_port_and_serves_when_a_revision_is_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: None)
    settings, stop = settings_in(tmp_path, poll_interval_s=0.02), asyncio.Event()
    settings = settings.model_copy(update={"http": HttpSettings(port=free_port())})
    url = f"http://127.0.0.1:{settings.http.port}/v1"
    process = asyncio.create_task(main(settings, stop))
    async with (
        AsyncClient(app_id="test", policy_address=f"127.0.0.1:{settings.app.port}", retry=NO_RETRY) as client,
        AsyncPolicyControlClient(f"127.0.0.1:{settings.control.port}", NO_RETRY) as control,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as openai,
        aiohttp.ClientSession() as session,
    ):
        await control.wait_until_serving(30)
        async with session.get(f"{url}/health") as response:
            assert response.status == 503
        publish_stable(Registry(settings.registry), 1, tmp_path / "policy")
        await client.wait_until_serving(30)
        async with session.get(f"{url}/health") as response:
            assert response.status == 200
        answer = await openai.chat.completions.create(model="support", messages=[{"role": "user", "content": "hello"}])
        assert answer.system_fingerprint == str(MODEL.revision(1))
    stop.set()
    await process


async def test_from_an_empty_registry_to_answers_and_a_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: caplog.set_level(logging.INFO))
    settings, stop = settings_in(tmp_path, poll_interval_s=0.02), asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    async with (
        AsyncClient(app_id="test", policy_address=f"127.0.0.1:{settings.app.port}", retry=NO_RETRY) as client,
        AsyncPolicyControlClient(f"127.0.0.1:{settings.control.port}", NO_RETRY) as control,
    ):
        await control.wait_until_serving(30)
        with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
            await client.wait_until_serving(0.05)
        with pytest.raises(NoRevision):
            await client.generate("hello")
        assert "attune sft --publish policies/support" in caplog.text
        publish_stable(Registry(settings.registry), 1, tmp_path / "policy")
        await client.wait_until_serving(30)
        assert (await client.generate("hello", max_tokens=4)).recorded
        await control.pause("so that a call is running at the stop")
        running = asyncio.create_task(client.generate("hello", max_tokens=4))
        async with asyncio.timeout(10):
            while not (await control.status()).queued_completions:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await control.resume()
        stop.set()
        assert (await running).recorded
        await process


async def test_with_keys_and_certificates_each_port_obeys_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: None)
    authority = Authority(tmp_path)
    server, client = authority.server(), authority.client()
    (app_key, app_kept), (operator_key, operator_kept) = new_key("shop", ["generate"]), new_key("ana", ["control"])
    write_keys(tmp_path / "keys.json", [app_kept, operator_kept])
    tls = {"cert_file": server.certificate, "key_file": server.key, "client_ca_file": authority.file}
    tls = TlsSettings(**{name: str(path) for name, path in tls.items()})
    settings, stop = settings_in(tmp_path, 0.02, tls=tls, keys_file=str(tmp_path / "keys.json")), asyncio.Event()
    publish_stable(Registry(settings.registry), 1, tmp_path / "one")
    process = asyncio.create_task(main(settings, stop))
    app, control = f"127.0.0.1:{settings.app.port}", f"127.0.0.1:{settings.control.port}"

    def access(bearer: str) -> Access:
        return Access(
            tls=True,
            ca_file=str(authority.file),
            cert_file=str(client.certificate),
            key_file=str(client.key),
            bearer=bearer,
        )

    async with (
        AsyncClient(app_id="shop", policy_address=app, retry=NO_RETRY, access=access(app_key)) as shop,
        AsyncClient(app_id="forum", policy_address=app, retry=NO_RETRY, access=access(app_key)) as forum,
        AsyncClient(app_id="", policy_address=app, retry=NO_RETRY, access=access(app_key)) as nameless,
        AsyncClient(app_id="shop", policy_address=app, retry=NO_RETRY, access=access("")) as keyless,
        AsyncClient(app_id="shop", policy_address=app, retry=NO_RETRY) as clear,
        AsyncPolicyControlClient(control, NO_RETRY, access(operator_key)) as operator,
        AsyncPolicyControlClient(control, NO_RETRY, access(app_key)) as usurper,
        AsyncPolicyControlClient(control, NO_RETRY, access("")) as nobody,
    ):
        await shop.wait_until_serving(30)
        assert (await shop.generate("hello", max_tokens=2)).generation.app_id == "shop"
        assert (await nameless.generate("hello", max_tokens=2)).generation.app_id == "shop"
        assert not (await operator.status()).paused
        for asked, error in (
            (forum.generate("hello"), PermissionDenied),
            (keyless.generate("hello"), Unauthenticated),
            (clear.generate("hello"), ServerUnavailable),
            (usurper.pause("mine now"), PermissionDenied),
            (nobody.pause("mine now"), Unauthenticated),
        ):
            with pytest.raises(error):
                await asked
        with pytest.raises(PermissionDenied):
            await anext(forum.stream("hello"))
        assert not (await operator.status()).paused
    stop.set()
    await process


async def test_the_doors_of_other_clients_show_the_certificate_and_ask_for_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: None)
    authority = Authority(tmp_path)
    server = authority.server()
    (shop, shop_kept), (scorer, scorer_kept) = new_key("shop", ["generate"]), new_key("shop", ["score"])
    write_keys(tmp_path / "keys.json", [shop_kept, scorer_kept])
    settings = settings_in(
        tmp_path,
        0.02,
        http=HttpSettings(port=free_port()),
        tls=TlsSettings(cert_file=str(server.certificate), key_file=str(server.key)),
        keys_file=str(tmp_path / "keys.json"),
    )
    publish_stable(Registry(settings.registry), 1, tmp_path / "one")
    stop = asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    app, url = f"127.0.0.1:{settings.app.port}", f"https://127.0.0.1:{settings.http.port}/v1"
    access = Access(tls=True, ca_file=str(authority.file), bearer=shop)
    trusting = ssl.create_default_context(cafile=str(authority.file))
    text = [InferInput("text_input", [1], "BYTES").set_data_from_numpy(np.array([b"hello"], dtype=np.object_))]
    async with (
        AsyncClient(app_id="shop", policy_address=app, retry=NO_RETRY, access=access) as client,
        AsyncOpenAI(base_url=url, api_key=shop, http_client=DefaultAsyncHttpxClient(verify=trusting)) as openai,
        InferenceServerClient(app, ssl=True, root_certificates=str(authority.file)) as triton,
    ):
        await client.wait_until_serving(30)
        answer = await openai.completions.create(model="support", prompt="hello")
        assert answer.attune["app_id"] == "shop"  # type: ignore[attr-defined]
        await triton.infer("support", text, headers={"authorization": f"Bearer {shop}"})
        for bearer, error, status in (
            (scorer, PermissionDeniedError, "PERMISSION_DENIED"),
            ("none", AuthenticationError, "UNAUTHENTICATED"),
        ):
            with pytest.raises(error):
                await openai.with_options(api_key=bearer).completions.create(model="support", prompt="hello")
            with pytest.raises(InferenceServerException) as raised:
                await triton.infer("support", text, headers={"authorization": f"Bearer {bearer}"})
            assert raised.value.status() == f"StatusCode.{status}"
    stop.set()
    await process


async def test_both_doors_of_apps_go_on_after_notice_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.policy.main.set_up_logging", lambda level: None)
    settings = settings_in(tmp_path, 0.02, http=HttpSettings(port=free_port()), notice_s=3.0)
    publish_stable(Registry(settings.registry), 1, tmp_path / "one")
    url = f"http://127.0.0.1:{settings.http.port}/v1"
    stop = asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    async with (
        AsyncClient(app_id="test", policy_address=f"127.0.0.1:{settings.app.port}", retry=NO_RETRY) as client,
        aiohttp.ClientSession() as session,
    ):
        await client.wait_until_serving(30)
        stop.set()
        async with asyncio.timeout(10):
            while await status_of(session, f"{url}/health") != 503:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
            await client.wait_until_serving(0.0)
        async with session.post(f"{url}/completions", json={"prompt": "hello"}) as response:
            assert response.status == 200
        assert (await client.generate("hello", max_tokens=2)).recorded
    await process


async def status_of(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status
