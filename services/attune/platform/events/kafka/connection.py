"""Clients of kafka-python for a broker, and its errors as Attune's.

The library retries a refused connection until its time is over and then says only that it is over, and it leaves the
sockets of failed connections to the garbage collector. Here the reason of the last failure is heard and kept, a refusal
(of password or certificate) ends the attempt at once, and what fails or is closed leaves nothing open.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from attune.domain.errors import ConfigurationInvalid, EventLogUnavailable
from attune.platform.events.settings import KafkaSettings

RECONNECT_FIRST_MS, RECONNECT_LONGEST_MS = 50, 1000
REFUSALS = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
    errors.InvalidReceiveError,  # the answer is no Kafka frame: a plain client at a port with TLS
)

T = TypeVar("T")


class _LastWords:
    """A transport that hears what was sent before a hang-up: a broker says why it refuses, and closes at once."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()  # type: ignore[misc]
        # A hang-up behind data is met again by the next read.
        return (data, None) if data else (data, error)


class _PlainTransport(_LastWords, KafkaTCPTransport):
    pass


class _TlsTransport(_LastWords, KafkaSSLTransport):
    pass


class _Manager(KafkaConnectionManager):
    """Remembers why the last connection failed, does not try again what was refused, and closes its sockets."""

    last_error: Exception | None = None

    def get_connection(self, node_id: Any, *args: Any, **options: Any) -> Any:
        if self.last_error is not None and _is_refusal(self.last_error):
            raise self.last_error
        connection = super().get_connection(node_id, *args, **options)
        connection.init_future.add_errback(self._remember)
        return connection

    def close(self, node_id: Any = None, timeout_ms: float | None = None) -> None:
        """Whatever still waits to be written is dropped."""
        for connection in [self._conns.get(node_id)] if node_id is not None else list(self._conns.values()):
            if connection is not None:
                connection.close(errors.Cancelled("closed"))
        super().close(node_id, timeout_ms)

    def _remember(self, error: Exception) -> None:
        if not isinstance(error, errors.Cancelled):
            self.last_error = error

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> KafkaTCPTransport:
        failure: Exception = errors.KafkaConnectionError(f"{node.host} has no address")
        plain = KafkaNetSocket()
        for place in plain.dns_lookup(node.host, node.port):
            opened: Any = socket.socket(*place[:3])
            try:
                opened.setblocking(False)
                for option in self.config["socket_options"]:
                    opened.setsockopt(*option)
                await plain.sock_connect(self._net, opened, place[4], timeout_at=timeout_at)
                opened = self._transport(opened, node.host)
                await opened.handshake()
            except (errors.KafkaError, OSError) as error:
                opened.close()
                failure = error
            else:
                return opened
        raise errors.KafkaConnectionError(described(failure))

    def _transport(self, opened: socket.socket, host: str) -> KafkaTCPTransport:
        if self.ssl_enabled:
            return _TlsTransport(self._net, opened, host=host, ssl_context=self.config["ssl_context"])
        return _PlainTransport(self._net, opened, host=host)


def connect(client: Callable[..., T], settings: KafkaSettings, timeout_s: float, **options: Any) -> T:
    """A connected client of the library. ConfigurationInvalid if the broker refuses it, else EventLogUnavailable."""
    made: list[tuple[KafkaNetClient, _Manager]] = []

    def networked(**configuration: Any) -> KafkaNetClient:
        net = NetworkSelector(**configuration)
        manager = _Manager(net, **configuration)
        made.append((KafkaNetClient(net=net, manager=manager), manager))
        return made[0][0]

    _quiet_library()
    options = _options(settings) | options | {"bootstrap_timeout_ms": timeout_s * 1000, "kafka_client": networked}
    try:
        return client(**options)
    except (errors.KafkaError, OSError) as error:
        reason: Exception = error
        for network, manager in made:
            reason = manager.last_error or error
            network.close()
        kind = ConfigurationInvalid if _is_refusal(reason) else EventLogUnavailable
        raise kind(f"Kafka at {settings.bootstrap}: {described(reason)}") from error


@contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Errors of the library as EventLogUnavailable; `what` begins the message."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        raise EventLogUnavailable(f"{what}: {described(error)}") from error


def described(error: Exception) -> str:
    """What an error says. The class that the library puts before it stays only where it is the broker's own name."""
    name = type(error).__name__
    said = str(error).rpartition(f"{name}: ")[2]
    return f"{name}: {said}".rstrip(": ") if isinstance(error, errors.BrokerResponseError) else said or name


def _is_refusal(error: Exception) -> bool:
    # Failures of TLS reach us as connection errors that quote them.
    return isinstance(error, REFUSALS) or "[SSL: " in str(error)


def _quiet_library() -> None:
    """What it logs at every attempt, with tracebacks, its calls tell us too: once, as an error with a reason."""
    is_debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    logging.getLogger("kafka").setLevel(logging.DEBUG if is_debugging else logging.CRITICAL)


def _options(settings: KafkaSettings) -> dict[str, Any]:
    protocol = "SSL" if settings.tls else "PLAINTEXT"
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "client_id": settings.client_id,
        "security_protocol": f"SASL_{protocol}" if settings.mechanism else protocol,
        "reconnect_backoff_ms": RECONNECT_FIRST_MS,
        "reconnect_backoff_max_ms": RECONNECT_LONGEST_MS,
    }
    try:
        if settings.tls:
            options["ssl_context"] = _tls(settings)
        if settings.mechanism:
            options["sasl_mechanism"] = settings.mechanism
            options["sasl_plain_username"], options["sasl_plain_password"] = settings.username, settings.secret()
    except OSError as error:
        raise ConfigurationInvalid(f"a file of the Kafka settings cannot be read: {error}") from error
    return options


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    """Trusts `ca_file`, checks the broker's name, and shows this client's certificate. OSError if a file is bad."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
