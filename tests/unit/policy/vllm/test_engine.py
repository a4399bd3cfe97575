"""What vLLM's engine refuses before it starts; tests/integration/test_vllm.py runs it."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from attune.domain.errors import CheckpointRefused, ConfigurationInvalid
from attune.modeling.revisions import Held
from attune.policy.jobs import EngineLimits
from attune.policy.metrics import PolicyMetrics
from attune.policy.vllm.engine import VllmEngine, _check_same_shape
from prometheus_client import CollectorRegistry

ONE = Held("policies/support/revisions/1", SimpleNamespace(shape={"hidden_size": 64}))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_it_says_where_to_read_how_to_get_it() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"deploy/generation\.md"):
        VllmEngine(EngineLimits(), PolicyMetrics(CollectorRegistry()))


def test_another_shape_is_refused_by_what_differs() -> None:
    _check_same_shape(ONE, ONE)
    wider = Held("policies/support/revisions/2", SimpleNamespace(shape={"hidden_size": 96}))
    with pytest.raises(CheckpointRefused, match="hidden_size"):
        _check_same_shape(ONE, wider)
