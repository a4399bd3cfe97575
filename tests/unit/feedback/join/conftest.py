"""A join database of its own for each test, on every kind of database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attune.feedback.join.store import Store
from feedback_samples import FEEDBACK, LIMITS
from sqlalchemy import Engine


@pytest.fixture
def engine(new_engine: Callable[[str], Engine]) -> Engine:
    return new_engine("join")


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, LIMITS, FEEDBACK)
