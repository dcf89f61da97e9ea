"""How every Kafka client of ours reaches the brokers: one place that turns settings into its arguments."""

from __future__ import annotations

import ssl
from typing import Any

from .settings import Settings, SettingsError


def kafka_connection(settings: Settings) -> dict[str, Any]:
    """The arguments that each client of aiokafka is made with: `AIOKafkaProducer(**kafka_connection(settings), ...)`.

    Certificates and keys are read now; a client that runs keeps them until it is made anew.

    Raises:
        SettingsError: a file cannot be read, or does not hold what it should.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings),
    }
    if settings.kafka_sasl_username is not None and settings.kafka_sasl_password is not None:
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """What a TLS connection trusts and shows; the name of the broker is always checked."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    ca, certificate, key = settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # also what ssl raises
        raise SettingsError(f"ASSESSMENTSTORE_KAFKA_SSL_CAFILE={ca}: {_why(error)}") from error
    if certificate is None:
        return context
    secret = settings.kafka_ssl_key_password
    # Without a password OpenSSL would ask the terminal for one.
    password = secret.get_secret_value() if secret else ""
    try:
        context.load_cert_chain(certificate, key, password=lambda: password)
    except OSError as error:
        named = f"ASSESSMENTSTORE_KAFKA_SSL_CERTFILE={certificate} with ASSESSMENTSTORE_KAFKA_SSL_KEYFILE={key or ''}"
        raise SettingsError(
            f"{named}: {_why(error)}; the password is ASSESSMENTSTORE_KAFKA_SSL_KEY_PASSWORD"
        ) from error
    return context


def _why(error: OSError) -> str:
    """What is wrong with a file, in one line."""
    if isinstance(error, ssl.SSLError):
        return f"not the PEM that is wanted ({(error.reason or str(error)).replace('_', ' ').lower()})"
    return error.strerror or str(error)
