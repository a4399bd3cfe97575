"""Certificates for a secured broker on this machine: an authority, the broker and one client, as PEM files.

For development and tests only: keys are not encrypted and last for a year. `python certificates.py FOLDER` makes them.
"""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)
CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Certificates:
    """The files of one authority. `broker` holds key and chain, as Kafka's PEM keystores want it."""

    authority: Path
    broker: Path
    client_certificate: Path
    client_key: Path


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_certificates(folder: Path) -> Certificates:
    """Writes a fresh set into `folder` and returns the files; the broker's names are localhost and 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder / "ca.pem", folder / "broker.pem", folder / "client.pem", folder / "client.key")
    authority = new_authority()
    broker = issue(authority, "broker", ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    client = issue(authority, "client", ExtendedKeyUsageOID.CLIENT_AUTH)
    made.authority.write_bytes(authority.certificate_pem())
    made.client_certificate.write_bytes(client.certificate_pem())
    for path, content in (
        (made.broker, broker.key_pem() + broker.certificate_pem()),
        (made.client_key, client.key_pem()),
    ):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return made


def new_authority() -> Issued:
    """One that signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Attune development authority")
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    signing = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = builder.add_extension(signing, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Issued(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Issued, name: str, *usages: x509.ObjectIdentifier) -> Issued:
    """A certificate for localhost and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name(name), authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(issuer, critical=False)
    )
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + LIFETIME)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


if __name__ == "__main__":
    print(make_certificates(Path(sys.argv[1])))
