"""Certificates for servers and clients on this machine, as PEM files, made anew for each test that asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from certificates import Issued, issue, new_authority
from cryptography.x509.oid import ExtendedKeyUsageOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass
class Authority:
    """Signs certificates into a folder; those of another authority do not hold with it."""

    folder: Path
    name: str = "ca"
    issued: Issued = field(default_factory=new_authority)

    def __post_init__(self) -> None:
        self.file = self.folder / f"{self.name}.pem"
        self.file.write_bytes(self.issued.certificate_pem())

    def server(self, name: str = "server") -> Pair:
        """A fresh one for localhost and 127.0.0.1; the same name again is a renewal."""
        return self._write(name, issue(self.issued, name, ExtendedKeyUsageOID.SERVER_AUTH))

    def client(self, name: str = "client") -> Pair:
        return self._write(name, issue(self.issued, name, ExtendedKeyUsageOID.CLIENT_AUTH))

    def _write(self, name: str, made: Issued) -> Pair:
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        for file, content in ((pair.certificate, made.certificate_pem()), (pair.key, made.key_pem())):
            fresh = file.with_suffix(".fresh")
            fresh.write_bytes(content)
            fresh.replace(file)
        return pair
