"""How a Kafka is reached, by the URL of its target: TLS, a user and a password, a certificate."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..tls import tls_context

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
_OPTIONS = {"security_protocol", "sasl_mechanism", "ssl_key_password", *_FILES}


def kafka_access(url: str) -> dict[str, Any]:
    """The arguments of a client of aiokafka for `kafka://user:password@host:port,…?security_protocol=SASL_SSL&…`.

    The options are named as the settings of the store are: `security_protocol` (else SASL_SSL with a user, PLAINTEXT
    without), `sasl_mechanism` (SCRAM-SHA-512), `ssl_cafile`, `ssl_certfile`, `ssl_keyfile`, `ssl_key_password`.

    Raises:
        ValueError: an option is none, does not fit the others, or names a file that cannot be used.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - _OPTIONS:
        raise ValueError(f"{min(unknown)}: there is no such option, but {', '.join(sorted(_OPTIONS))}")
    protocol = _one_of(_PROTOCOLS, options, "security_protocol", "SASL_SSL" if parts.username else "PLAINTEXT")
    if protocol.startswith("SASL") is not bool(parts.username):
        raise ValueError(f"security_protocol={protocol} and a user and a password in the URL belong together")
    tls_options = sorted(name for name in options if name.startswith("ssl_"))
    if tls_options and not protocol.endswith("SSL"):
        raise ValueError(f"{tls_options[0]}: security_protocol={protocol} has no use for it")
    access: dict[str, Any] = {
        "bootstrap_servers": parts.netloc.rpartition("@")[2],
        "security_protocol": protocol,
        "ssl_context": None,
    }
    if protocol.endswith("SSL"):
        ca, certificate, key = (options.get(name) for name in _FILES)
        access["ssl_context"] = tls_context(ca, certificate, key, options.get("ssl_key_password", ""), names=_FILES)
    if parts.username:
        access |= {
            "sasl_mechanism": _one_of(_MECHANISMS, options, "sasl_mechanism", _MECHANISMS[0]),
            "sasl_plain_username": unquote(parts.username),
            "sasl_plain_password": unquote(parts.password or ""),
        }
    return access


def _one_of(known: tuple[str, ...], options: dict[str, str], name: str, otherwise: str) -> str:
    value = options.get(name, otherwise).upper()
    if value not in known:
        raise ValueError(f"{name}={value}: expected one of {', '.join(known)}")
    return value
