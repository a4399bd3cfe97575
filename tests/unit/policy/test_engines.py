"""Both engines are what the server wants of one."""

from __future__ import annotations

import inspect

import pytest
from attune.policy.engine import Engine
from attune.policy.engines import PolicyEngine
from attune.policy.vllm.engine import VllmEngine

METHODS = ("check_room", "generate", "pause", "resume", "run")


@pytest.mark.parametrize("engine", [Engine, VllmEngine])
@pytest.mark.parametrize("name", METHODS)
def test_an_engine_has_the_methods_with_their_arguments(engine: type, name: str) -> None:
    wanted, found = (inspect.signature(getattr(cls, name)) for cls in (PolicyEngine, engine))
    assert list(found.parameters) == list(wanted.parameters)
    assert found.return_annotation == wanted.return_annotation
