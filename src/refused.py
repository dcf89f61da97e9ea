"""A service that is there and refuses us: the reason in words that are fit for everybody."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import asyncpg
from aiokafka import errors as kafka
from redis import exceptions as redis

from .models.errors import UnavailableError

# X509_verify_cert(3): expired or not valid yet; another host name or address.
_OUT_OF_TIME = frozenset({9, 10})
_FOR_ANOTHER = frozenset({62, 64})

_WHO = (
    asyncpg.InvalidAuthorizationSpecificationError,
    redis.AuthenticationError,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
)
_MAY_NOT = (
    asyncpg.InsufficientPrivilegeError,
    redis.NoPermissionError,
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)

_REFUSED = (
    (_WHO, "refuses our user, password or certificate: check them, and what it asks for"),
    (_MAY_NOT, "does not permit our user what is needed: grant it"),
    (asyncpg.ReadOnlySQLTransactionError, "takes no writes: it is a standby, or default_transaction_read_only is on"),
    (asyncpg.TooManyConnectionsError, "has no connection left: raise max_connections, or see who has them"),
    (asyncpg.LockNotAvailableError, "lets us wait for a lock no longer: see who holds it, and our user's lock_timeout"),
)

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")


def why_refused(error: BaseException) -> str | None:
    """Why we were refused, without a name of a host or a user; nothing where it was for another reason."""
    return next((words for each in reversed([*_chain(error)]) if (words := _words(each))), None)


def unavailable(service: str, error: Exception) -> UnavailableError:
    """The error that says that a service, named as people do, cannot be used for now."""
    why = why_refused(error)
    if why is not None:
        return UnavailableError(f"{service} {why}: {error}")
    # redis-py's repr keeps the message to itself.
    said = f"{type(error).__name__}: {error}" if isinstance(error, redis.RedisError) else repr(error)
    return UnavailableError(f"{service} does not answer: {said}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str | None:
    for kinds, words in _REFUSED:
        if isinstance(error, kinds):
            return words
    match error:
        case ssl.SSLError():
            return _of_tls(error)
        case ConnectionError() if "rejected SSL upgrade" in str(error):  # all that asyncpg says
            return "speaks no TLS at this address: switch it on there"
        case kafka.KafkaConnectionError() if str(error).endswith("closed"):  # all that aiokafka says
            return "hangs up on us: see whether its listener at this address speaks our KAFKA_SECURITY_PROTOCOL"
        case redis.ConnectionError(__context__=ConnectionResetError()):
            # TLS 1.3 refuses a client's certificate after the handshake; a reset on its first request overtakes that.
            return "hangs up on us: it stops, or, over TLS, it wants a client certificate, or does not trust ours"
        case redis.ResponseError():
            return _of_redis(error)
    return None


def _of_redis(error: redis.ResponseError) -> str | None:
    """Why it takes no writes, though it answers."""
    match error:
        case redis.ReadOnlyError():
            return "is a replica, and takes no writes: let its address lead to the primary"
        case redis.OutOfMemoryError():
            return "is full, and takes no writes: raise its maxmemory, or see what else fills it"
        case _ if str(error).startswith("MISCONF"):
            return "cannot save its data to its disk, and takes no writes: see its own log"
    return None


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error.verify_code)
    if error.reason in _NO_TLS:
        return "speaks no TLS at this address: use the address of its TLS listener"
    return "ends the TLS handshake: it wants a client certificate, or does not trust ours"


def _of_certificate(code: int) -> str:
    if code in _OUT_OF_TIME:
        return "shows a certificate that has expired or is not valid yet: renew it, or set the clocks right"
    if code in _FOR_ANOTHER:
        return "shows a certificate for another host: use the name that it is for, or have one made for this name"
    return "shows a certificate of an authority that is not trusted: name the file of its authority in the settings"
