"""The certificate that a server shows, and whose certificates it wants to see; renewed files hold without a restart.

gRPC asks for the certificate at every handshake, on a thread of its own; `ssl`, for HTTP doors, likewise. What is read
is taken only if key and certificate belong together, so that a renewal seen halfway is looked at again at the next
handshake. Connections that stand keep the certificate they began with.

Whether gRPC's clients must show a certificate is decided at the start, for gRPC cannot change it later.
"""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from attune.domain.errors import ConfigurationInvalid
from attune.platform.access.files import stamp

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files: the server's chain, its key, and the authorities of clients; without the latter none is asked for."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    def all(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *([self.client_authorities] if self.client_authorities else []))


@dataclass(frozen=True)
class _Content:
    certificate: bytes
    key: bytes
    client_authorities: bytes | None
    context: ssl.SSLContext = field(compare=False)

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_authorities)


class ServerCertificates:
    """See the module. ConfigurationInvalid if the files cannot be used at the start."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamp, self._complaint = stamp(*files.all()), ""
        self._content = _read(files)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For add_secure_port."""
        must_show = self._files.client_authorities is not None
        return grpc.dynamic_ssl_server_credentials(self._content.for_grpc(), self._for_handshake, must_show)

    def ssl_context(self) -> ssl.SSLContext:
        """For servers of Python's own ssl, such as aiohttp's. Clients are not asked for certificates there: browsers
        have none."""
        outer = _context(self._files)

        def follow(connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> None:
            self._renew()
            connection.context = self._content.context

        outer.sni_callback = follow
        return outer

    def _for_handshake(self) -> grpc.ServerCertificateConfiguration:
        self._renew()
        return self._content.for_grpc()

    def _renew(self) -> None:
        """Takes what the files hold if they changed and hold together. Any thread."""
        with self._lock:
            found = stamp(*self._files.all())
            if found == self._stamp:
                return
            try:
                content = _read(self._files)
            except ConfigurationInvalid as error:
                if error.message != self._complaint:
                    log.error("the certificate stays as it was: %s", error.message)
                self._complaint = error.message
                return
            self._stamp, self._content, self._complaint = found, content, ""
            log.info("the certificate %s was renewed", self._files.certificate)


def _read(files: CertificateFiles) -> _Content:
    """What the files hold; ConfigurationInvalid if that is no pair. Read twice, for the check reads
    by itself: what it checked is then what is returned."""
    try:
        before, after = _content(files), _content(files)
    except ssl.SSLError as error:
        raise ConfigurationInvalid(f"{files.certificate} and {files.key} are no pair: {error.reason}") from None
    except OSError as error:
        raise ConfigurationInvalid(f"{error.filename or files.certificate} cannot be read: {error.strerror}") from None
    if before != after:
        raise ConfigurationInvalid(f"{files.certificate} is being written")
    return after


def _content(files: CertificateFiles) -> _Content:
    authorities = files.client_authorities.read_bytes() if files.client_authorities else None
    return _Content(files.certificate.read_bytes(), files.key.read_bytes(), authorities, _context(files))


def _context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key, password="")  # else an encrypted key asks the terminal
    if files.client_authorities:
        context.load_verify_locations(files.client_authorities)  # only to see that they hold
    return context
