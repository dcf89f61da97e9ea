"""Certificates and keys from files: what TLS trusts and shows, or one line about the file that is wrong."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


def tls_context(
    ca: str | Path | None,
    certificate: str | Path | None,
    key: str | Path | None,
    password: str,
    *,
    names: Sequence[str],
) -> ssl.SSLContext:
    """A context for a client that checks the server's certificate and name.

    Args:
        ca: the authorities to trust (PEM), else those of the system.
        certificate: of the client (PEM).
        key: of the certificate, where it is in a file of its own.
        password: that the key is encrypted with, or nothing.
        names: of the settings that gave the first three, for the error.

    Raises:
        ValueError: a file cannot be read, or holds something else; one line that names it.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # also what ssl raises
        raise ValueError(f"{names[0]}={ca}: {_why(error)}") from error
    if not certificate:
        return context
    for name, file in zip(names[1:], (certificate, key), strict=True):
        try:
            if file:
                Path(file).read_bytes()
        except OSError as error:
            raise ValueError(f"{name}={file}: {_why(error)}") from error
    try:
        # Without a password OpenSSL would ask the terminal for one.
        context.load_cert_chain(certificate, key or None, password=lambda: password)
    except OSError as error:
        raise ValueError(f"{names[1]}={certificate} with {names[2]}={key or ''}: {_why(error)}") from error
    return context


def _why(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    reason = (error.reason or "").replace("_", " ").lower()
    return f"no certificate and key that belong together, or a wrong password of the key ({reason or 'no PEM'})"


POSTGRES = ("sslrootcert", "sslcert", "sslkey", "sslpassword")
REDIS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password")
"""What a URL may say of TLS, as libpq and redis-py call it: authorities, a certificate, its key, the key's password."""

_POSTGRES_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def check_url(url: str, names: Sequence[str]) -> None:
    """See that the files that a URL names for TLS can be used: else a driver would take it for a server that is away.

    Raises:
        ValueError: one cannot, or the mode is none; one line that names it.
    """
    query = dict(parse_qsl(urlsplit(url).query))
    mode = query.get("sslmode", "prefer")
    if names is POSTGRES and mode not in _POSTGRES_MODES:
        raise ValueError(f"sslmode={mode}: expected one of {', '.join(_POSTGRES_MODES)}")
    ca, certificate, key, password = (query.get(name) for name in names)
    if ca or certificate:
        tls_context(ca, certificate, key, password or "", names=names[:3])
