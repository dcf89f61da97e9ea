"""A command of a request, checked by the rules of the topic before it goes there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from aiohttp import web

from ..models.base import JsonObject
from ..models.commands import CommandHeader, CommandType
from ..models.envelope import MAX_COMMAND_BYTES, SOURCE, RefusedCommand, decode_command, encode_command
from ..models.errors import ErrorCode, NotACommandError, RejectedError, Rejection
from ..models.sealed import MEMBER
from ..models.storable import unstorable
from ..store.encryption import NO_KEYS, KeyRing
from .auth import USER
from .middleware import TRACEPARENT
from .proxies import client_address, user_agent

_SEALED = frozenset({CommandType.CREATE, CommandType.COMPLETE})
"""The commands that carry a payload."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A valid command, as it goes to Kafka."""

    header: CommandHeader
    value: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a command, as its event and its audit row will tell of him."""

    user_id: str
    traceparent: str
    ip_address: str | None = None
    user_agent: str | None = None
    source: str = f"{SOURCE}/http"
    """The part of the system that he spoke to."""

    @classmethod
    def of(cls, request: web.Request) -> Caller:
        """Whoever sent a request that was let in."""
        return cls(request[USER].id, request[TRACEPARENT], client_address(request), user_agent(request))


def prepare(
    command_type: CommandType,
    assessment_id: str,
    data: JsonObject,
    *,
    command_id: str,
    caller: Caller,
    reply_to: str | None,
    expected_version: int | None = None,
    keys: KeyRing = NO_KEYS,
) -> Outgoing:
    """Check a command as a worker will, and seal its payload where there are keys.

    Raises:
        RejectedError: VALIDATION_ERROR or PAYLOAD_TOO_LARGE.
    """
    if reason := unstorable(data):
        raise RejectedError(Rejection.invalid(reason))
    if keys and MEMBER in data:
        raise RejectedError(Rejection.invalid(f"{MEMBER} is the name of what is encrypted here: choose another"))
    encode = partial(
        encode_command,
        command_id=command_id,
        command_type=command_type,
        assessment_id=assessment_id,
        source=caller.source,
        time=datetime.now(UTC),
        userid=caller.user_id,
        clientip=caller.ip_address,
        useragent=caller.user_agent,
        expectedversion=expected_version,
        traceparent=caller.traceparent,
        replyto=reply_to,
    )
    value = encode(data=data)
    header = _checked(assessment_id, value, keys)
    if keys and command_type in _SEALED:
        value = encode(data=keys.seal(assessment_id, data))
    return Outgoing(header, value)


def too_large() -> RejectedError:
    """What is told of a body over the limit."""
    words = f"The command is too large: the limit is {MAX_COMMAND_BYTES} bytes"
    return RejectedError(Rejection(ErrorCode.PAYLOAD_TOO_LARGE, words, {"limit": MAX_COMMAND_BYTES}))


def _checked(assessment_id: str, value: bytes, keys: KeyRing) -> CommandHeader:
    """The header of a command that a worker will take."""
    if len(value) > MAX_COMMAND_BYTES:
        raise too_large()
    try:
        command = decode_command(assessment_id.encode(), value, [], keys or None)
    except NotACommandError as error:
        raise RejectedError(Rejection.invalid(str(error))) from error
    if isinstance(command, RefusedCommand):
        raise RejectedError(command.rejection)
    return command.header
