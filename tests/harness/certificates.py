"""Certificates for tests: an authority of one's own, and what it signs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, in files (PEM)."""

    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        """One file with the key and the certificate, as Kafka's brokers want it."""
        file = self.key.with_suffix(".both.pem")
        file.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return file


class Authority:
    """Whom a test trusts."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make it.

        Args:
            folder: for its files.
            name: of the authority, and of its file.
        """
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key, datetime.now(UTC) + _VALID)
        extension = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        signed = builder.add_extension(extension, critical=True).add_extension(usage, critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str = "127.0.0.1", expired: bool = False, password: str = "") -> Issued:
        """A certificate for a server at an address, or for a client of that name.

        Args:
            name: the common name, and of its files.
            host: the address that it is for.
            expired: whether its time is over.
            password: that the key's file is encrypted with.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        ends = datetime.now(UTC) - timedelta(hours=1) if expired else datetime.now(UTC) + _VALID
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        signed = _builder(_name(name), self._name, key, ends).add_extension(addresses, critical=False)
        locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        issued = Issued(self._folder / f"{name}.crt.pem", self._folder / f"{name}.key.pem")
        certificate = signed.sign(self._key, hashes.SHA256())
        issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.key.touch(mode=0o600)
        issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
        return issued


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - _VALID - timedelta(hours=1))
        .not_valid_after(ends)
    )
