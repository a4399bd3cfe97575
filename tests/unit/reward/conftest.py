"""One tiny reward model for all tests of a module, and a scorer on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tiny_models import tiny_reward_folder
from unit.reward.scoring import Running, running_scorer


@pytest.fixture(scope="package")
def tiny_reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reward_folder(tmp_path_factory.mktemp("model") / "reward")


@pytest_asyncio.fixture
async def running(tmp_path: Path, tiny_reward: Path) -> AsyncIterator[Running]:
    async with running_scorer(tmp_path, tiny_reward) as made:
        yield made
