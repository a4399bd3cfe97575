"""Settings of the policy server: they run on a laptop as they are, and what they say reaches the engine."""

from __future__ import annotations

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.domain.generations import Sampling
from attune.platform.config import load_settings
from attune.policy.config import PolicySettings
from attune.policy.jobs import EngineLimits


def test_the_defaults_hold() -> None:
    settings = PolicySettings()
    assert settings.defaults.sampling() == Sampling()
    assert settings.engine.limits() == EngineLimits()
    ports = [settings.app.port, settings.control.port, settings.metrics_port]
    assert len(set(ports)) == 3


def test_what_is_said_reaches_sampling_and_engine() -> None:
    flags = ["defaults.max_tokens=7", "defaults.top_p=0.5", "engine.running=2", "engine.queued=3"]
    flags += ["engine.stream_tokens=4", "engine.stream_s=0.5"]
    settings = load_settings(PolicySettings, flags)
    assert settings.defaults.sampling() == Sampling(max_tokens=7, top_p=0.5)
    assert settings.engine.limits() == EngineLimits(2, 3, 4, 0.5)


def test_the_http_door_may_open_to_others_as_the_app_port_may() -> None:
    settings = load_settings(PolicySettings, ["http.host=0.0.0.0", "http.port=7301", "app.host=0.0.0.0"])
    assert (settings.http.host, settings.http.port, settings.http.limits(1.0).timeout_s) == ("0.0.0.0", 7301, 600.0)


@pytest.mark.parametrize(
    "flag",
    [
        "control.host=0.0.0.0",
        "dtype=float16",
        "defaults.temperature=0",
        "defaults.top_p=1.5",
        "engine.running=0",
        "engine.name=other",
        "vllm.arguments=7",
        "app.port=70000",
        "record_wait_s=0",
        "poll_interval_s=-1",
    ],
)
def test_what_cannot_hold_is_refused_by_its_key(flag: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=flag.partition("=")[0]):
        load_settings(PolicySettings, [flag])


def test_arguments_of_vllm_keep_their_types() -> None:
    flags = ["engine.name=vllm", "vllm.tensor_parallel_size=2", "vllm.arguments.block_size=32"]
    flags += ["vllm.arguments.enforce_eager=true", "vllm.arguments.kv_cache_dtype=fp8"]
    settings = load_settings(PolicySettings, flags)
    assert (settings.engine.name, settings.vllm.tensor_parallel_size) == ("vllm", 2)
    assert settings.vllm.arguments == {"block_size": 32, "enforce_eager": True, "kv_cache_dtype": "fp8"}
    variables = {"ATTUNE_POLICY_VLLM__ARGUMENTS": '{"block_size": 16}'}
    assert load_settings(PolicySettings, environ=variables).vllm.arguments == {"block_size": 16}
