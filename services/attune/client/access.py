"""How a client reaches a server: in the clear or over TLS, and with which key.

Files are looked at before every call and read anew when they changed, so that renewed certificates and keys hold
without a restart. A certificate that does not (yet) belong to its key leaves the channel as it is.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from attune.domain.errors import ConfigurationInvalid

Stamp = tuple[tuple[int, int, int], ...]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Access:
    """See the module. PEM files: `ca_file` holds the authorities that are trusted (empty: those of gRPC), `cert_file`
    and `key_file` what this client shows to servers that ask for a certificate; they need `tls`.

    `bearer` is the key that `attune keys create` printed, or `bearer_file` the file that holds it. Without `tls` it
    crosses the network as it is.
    """

    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    bearer: str = field(default="", repr=False)
    bearer_file: str = ""

    def __post_init__(self) -> None:
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ConfigurationInvalid("ca_file, cert_file and key_file need tls")
        if bool(self.cert_file) != bool(self.key_file):
            raise ConfigurationInvalid("cert_file and key_file belong together")
        if self.bearer and self.bearer_file:
            raise ConfigurationInvalid("give a bearer or a bearer_file, not both")

    def stamp(self) -> Stamp:
        """Changes when a certificate is renewed."""
        return tuple(_stamp(file) for file in (self.ca_file, self.cert_file, self.key_file) if file)

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """For a new channel; None in the clear. ConfigurationInvalid for files that cannot be used."""
        if not self.tls:
            return None
        if self.cert_file:
            _check_pair(self.cert_file, self.key_file)
        authorities, key, chain = map(_bytes, (self.ca_file, self.key_file, self.cert_file))
        return grpc.ssl_channel_credentials(authorities, key, chain)


OPEN = Access()
"""In the clear, without a key."""


class Bearer:
    """The key of an Access as metadata of calls. Any thread may use it."""

    def __init__(self, access: Access) -> None:
        self._file = access.bearer_file
        self._read: tuple[object, Metadata] = (None, _metadata(access.bearer))

    def metadata(self) -> Metadata:
        """Of a call; ConfigurationInvalid if the file cannot be read."""
        if not self._file:
            return self._read[1]
        found = _stamp(self._file)
        if found != self._read[0]:
            self._read = found, _metadata((_bytes(self._file) or b"").decode().strip())
        return self._read[1]


def _metadata(bearer: str) -> Metadata:
    return (("authorization", f"Bearer {bearer}"),) if bearer else ()


def _stamp(file: str) -> tuple[int, int, int]:
    try:
        found = Path(file).stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _check_pair(cert_file: str, key_file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as error:
        raise ConfigurationInvalid(f"{cert_file} and {key_file} are no pair: {error.reason}") from None
    except OSError as error:
        raise ConfigurationInvalid(f"{cert_file} or {key_file} cannot be read: {error.strerror}") from None


def _bytes(file: str) -> bytes | None:
    if not file:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationInvalid(f"{file} cannot be read: {error.strerror}") from None
