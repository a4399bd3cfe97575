"""Following aliases: how a server learns that another revision should serve.

Servers poll the registry themselves, so that they depend on no trainer; a hint makes them look at once. A registry that
cannot be read, or a change that could not be applied, is told to `on_error` and tried again, more slowly each time. Any
other error ends `run`, and with it the process: nothing dies silently.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from attune.domain.errors import AttuneError
from attune.domain.revisions import AliasRecord, ModelName
from attune.platform.registry.registry import Registry

log = logging.getLogger(__name__)

_MAX_BACKOFF_S = 30.0

OnChange = Callable[[AliasRecord], Awaitable[None]]
OnError = Callable[[Exception], None]


class AliasFollower:
    """Calls `on_change` with the record of each alias that points at another revision than when it last returned.

    An alias that points at nothing is not told. `on_change` raises to be called again; to refuse a revision for good it
    returns. Belongs to one event loop; `hint` is called there.
    """

    def __init__(
        self,
        registry: Registry,
        model: ModelName,
        aliases: Sequence[str],
        *,
        poll_interval_s: float,
        on_change: OnChange,
        on_error: OnError,
    ) -> None:
        self._registry, self._model, self._aliases = registry, model, tuple(aliases)
        self._poll_interval_s, self._on_change, self._on_error = poll_interval_s, on_change, on_error
        self._told: dict[str, int] = {}
        self._hinted = asyncio.Event()
        self._failures = 0

    def hint(self) -> None:
        """Looks at once instead of at the end of the interval."""
        self._hinted.set()

    async def run(self) -> None:
        """Follows until cancelled."""
        while True:
            self._hinted.clear()
            await self.look()
            try:
                await asyncio.wait_for(self._hinted.wait(), self._pause_s())
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Reads every alias once and tells what changed; errors go to `on_error`."""
        failed = False
        for alias in self._aliases:
            try:
                await self._look_at(alias)
            except (AttuneError, OSError) as error:
                failed = True
                log.warning("%s of %s: %s", alias, self._model, error)
                self._on_error(error)
        self._failures = self._failures + 1 if failed else 0

    async def _look_at(self, alias: str) -> None:
        record = await asyncio.to_thread(self._registry.alias, self._model, alias)
        if record is not None and self._told.get(alias) != record.number:
            await self._on_change(record)
            self._told[alias] = record.number

    def _pause_s(self) -> float:
        if not self._failures:
            return self._poll_interval_s
        backoff_s = self._poll_interval_s * 2.0 ** min(self._failures, 16)
        return max(self._poll_interval_s, min(backoff_s, _MAX_BACKOFF_S))
