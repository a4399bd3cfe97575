"""Settings of who may call a server and how it is encrypted, the same in every service, and what opens them.

A control port that others than this machine can reach must know whom to obey: without keys it is refused. An app port
is only warned about, for a gateway before it may do the asking.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from attune.platform.access.keys import KeyStore
from attune.platform.access.tls import CertificateFiles, ServerCertificates
from attune.platform.config import LOOPBACK, AppPort, ControlPort, Section, ServiceSettings

log = logging.getLogger(__name__)


class TlsSettings(Section):
    """The certificate that a server shows; renewed files hold without a restart. Without them it speaks in the
    clear."""

    cert_file: str = Field("", description="PEM file of the server's certificate chain; empty: no TLS.")
    key_file: str = Field("", description="PEM file of the certificate's key.")
    client_ca_file: str = Field("", description="PEM file of authorities; then clients must show a certificate.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file belong together")
        if self.client_ca_file and not self.cert_file:
            raise ValueError("client_ca_file needs cert_file and key_file")
        return self

    def files(self) -> CertificateFiles | None:
        if not self.cert_file:
            return None
        authorities = Path(self.client_ca_file) if self.client_ca_file else None
        return CertificateFiles(Path(self.cert_file), Path(self.key_file), authorities)


class AccessSettings(ServiceSettings):
    """Base of the settings of every service with a port."""

    tls: TlsSettings = TlsSettings()
    keys_file: str = Field("", description="File of bearer keys, made by `attune keys`; empty: no key is asked for.")
    health_host: str = Field("127.0.0.1", description="Address of the port for probes.")
    health_port: int | None = Field(
        None, ge=0, le=65535, description="Port for probes, in the clear, with nothing but health; 0 takes a free one."
    )

    @model_validator(mode="after")
    def _control_knows_whom_to_obey(self) -> Self:
        for port in (getattr(self, name) for name in type(self).model_fields):
            if isinstance(port, ControlPort) and port.host not in LOOPBACK and not self.keys_file:
                raise ValueError("control.host is not loopback: set keys_file, or anybody could steer this server")
        return self


@dataclass(frozen=True)
class Access:
    """Who may call a server, and the certificate that it shows, if any."""

    keys: KeyStore
    certificates: ServerCertificates | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.certificates else "http"

    def ssl_context(self) -> ssl.SSLContext | None:
        """For an HTTP door; without certificates None, and it speaks in the clear."""
        return self.certificates.ssl_context() if self.certificates else None


OPEN = Access(KeyStore())
"""Anybody, in the clear."""


def open_access(settings: AccessSettings) -> Access:
    """What the settings name. ConfigurationInvalid for files that cannot be used; logs what is open to others."""
    files = settings.tls.files()
    access = Access(
        KeyStore(Path(settings.keys_file) if settings.keys_file else None),
        ServerCertificates(files) if files else None,
    )
    for port in (getattr(settings, name) for name in type(settings).model_fields):
        if isinstance(port, AppPort | ControlPort):
            warn_of_others(port.host, access)
    return access


def warn_of_others(host: str, access: Access) -> None:
    """Logs what a port that listens on `host` leaves open to other machines."""
    if host in LOOPBACK:
        return
    if access.keys.is_open:
        log.warning("everybody who reaches %s may call: no keys_file is set", host)
    elif not access.certificates:
        log.warning("keys and texts cross %s in the clear: no tls.cert_file is set", host)
