"""The Lease of Kubernetes by which one of several processes leads and the others wait.

It only saves work and quarrels: whoever was overtaken is refused by the epochs of the registry, whatever it still
believes. The Lease is there already (the chart makes it) and is read and replaced, never made, so that a process needs
no more rights than on this one object. Where no Lease is named, as outside a cluster, nothing is asked of anybody.

A holder renews; a Lease that nobody has changed for its duration, by the clock of the one who waits, is taken over.
Clocks of machines are not compared. A holder that could not renew for two thirds of the duration, or was paused that
long, gives up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from attune.domain.errors import ConfigurationInvalid, LeaseLost, ServerUnavailable
from attune.platform.config import Section

log = logging.getLogger(__name__)
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
RENEWALS = 10
"""How often a holder renews within the duration."""
CONFLICT = 409


class LeaseSettings(Section):
    """The Lease to hold before leading."""

    name: str = Field("", description="Name of a Lease of Kubernetes; empty: none is asked for.")
    namespace: str = Field("", description="Its namespace; empty: that of the pod.")
    duration_s: float = Field(30.0, ge=1, description="A Lease not renewed for so long is taken over.")
    kubeconfig: str = Field("", description="File that says how the API server is reached; empty: as from a pod.")


@dataclass(frozen=True)
class LeaseRecord:
    """What a Lease says. `version` is another after every change of it."""

    holder: str = ""
    version: str = ""
    transitions: int = 0


class LeaseStore(Protocol):
    """Where the Lease lies. Both raise ServerUnavailable if it cannot be reached."""

    def read(self) -> LeaseRecord: ...

    def replace(self, record: LeaseRecord) -> LeaseRecord | None:
        """Writes the record over the one of its version; None if that is no longer the last."""
        ...


class Lease:
    """See the module. `clock` gives seconds that go on while the process is paused."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        *,
        duration_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self.identity, self._clock = store, identity, clock
        self._duration_s, self._pause_s = duration_s, duration_s / RENEWALS
        self._give_up_s = duration_s * 2 / 3
        self._seen, self._seen_at = LeaseRecord(), 0.0
        self._renewed_at = 0.0

    async def acquired(self, stop: asyncio.Event, say: Callable[[str], None] = lambda text: None) -> bool:
        """Waits until the Lease is ours; False if the stop came first. `say` is told who has it."""
        while not stop.is_set():
            try:
                if await self._try():
                    log.info("leads as %s", self.identity)
                    return True
                say(f"waits for the lease of {self._seen.holder}")
            except ServerUnavailable as error:
                log.warning("the lease is tried again: %s", error.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._pause_s)
        return False

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[asyncio.Task[None]]:
        """Renews for as long as the block runs, and gives the Lease back. The task ends with LeaseLost, if at all."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield keeping
        finally:
            keeping.cancel()
            (end,) = await asyncio.gather(keeping, return_exceptions=True)
            if not isinstance(end, LeaseLost):
                await self._release()

    async def _try(self) -> bool:
        found = await asyncio.to_thread(self._store.read)
        now = self._clock()
        if found != self._seen:
            self._seen, self._seen_at = found, now
        if found.holder and now - self._seen_at < self._duration_s:
            return False
        return await self._write(replace(found, holder=self.identity, transitions=found.transitions + 1))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            self._give_up_if_late()
            try:
                if not await self._write(self._seen):
                    raise LeaseLost(f"another process changed the lease of {self.identity}")
            except ServerUnavailable as error:
                log.warning("the lease could not be renewed: %s", error.message)
                self._give_up_if_late()

    def _give_up_if_late(self) -> None:
        late_s = self._clock() - self._renewed_at
        if late_s > self._give_up_s:
            raise LeaseLost(f"the lease was not renewed for {late_s:.0f} s")

    async def _write(self, record: LeaseRecord) -> bool:
        """Whether it was written; the time counts from before, for the others may see it that early."""
        began = self._clock()
        written = await asyncio.to_thread(self._store.replace, record)
        if written is None:
            return False
        self._seen, self._seen_at, self._renewed_at = written, began, began
        return True

    async def _release(self) -> None:
        with suppress(ServerUnavailable):
            await asyncio.to_thread(self._store.replace, replace(self._seen, holder=""))


class KubernetesLease:
    """A Lease on the API server."""

    def __init__(self, settings: LeaseSettings) -> None:
        from kubernetes import client, config
        from kubernetes.config.config_exception import ConfigException

        try:
            if settings.kubeconfig:
                config.load_kube_config(settings.kubeconfig)
            else:
                config.load_incluster_config()
            namespace = settings.namespace or NAMESPACE_FILE.read_text().strip()
        except (ConfigException, OSError) as error:
            raise ConfigurationInvalid(f"lease.name is set, and no API server can be asked: {error}") from None
        self._api, self._client = client.CoordinationV1Api(), client
        self._name, self._namespace, self._duration_s = settings.name, namespace, settings.duration_s

    def read(self) -> LeaseRecord:
        found = self._asked(self._api.read_namespaced_lease)
        assert found is not None
        return found

    def replace(self, record: LeaseRecord) -> LeaseRecord | None:
        now = datetime.now(UTC)
        spec = self._client.V1LeaseSpec(
            holder_identity=record.holder or None,
            lease_duration_seconds=max(1, round(self._duration_s)),
            lease_transitions=record.transitions,
            renew_time=now,
        )
        metadata = self._client.V1ObjectMeta(name=self._name, resource_version=record.version)
        return self._asked(self._api.replace_namespaced_lease, self._client.V1Lease(metadata=metadata, spec=spec))

    def _asked(self, call: Callable[..., Any], *body: Any) -> LeaseRecord | None:
        """The record that a call answers with; None for a conflict."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            lease = call(self._name, self._namespace, *body, _request_timeout=self._duration_s / 3)
        except ApiException as error:
            if error.status == CONFLICT:
                return None
            raise ServerUnavailable(f"lease {self._namespace}/{self._name}: {error.status} {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise ServerUnavailable(f"lease {self._namespace}/{self._name}: {error}") from error
        spec = lease.spec
        return LeaseRecord(
            holder=(spec and spec.holder_identity) or "",
            version=lease.metadata.resource_version,
            transitions=(spec and spec.lease_transitions) or 0,
        )


def open_lease(settings: LeaseSettings) -> Lease | None:
    """The Lease that the settings name, for a holder that is nobody else; None if they name none.

    ConfigurationInvalid if this process cannot ask for it.
    """
    if not settings.name:
        return None
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    return Lease(KubernetesLease(settings), identity, duration_s=settings.duration_s)
