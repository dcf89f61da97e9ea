"""Commands of the migration, checked by the rules of the topic before they go there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any

import orjson

from ..models.base import MAX_ID_LENGTH, JsonObject
from ..models.commands import CommandHeader, CommandType
from ..models.envelope import SOURCE, RefusedCommand, decode_command, encode_command
from ..models.errors import NotACommandError
from ..models.sealed import MEMBER
from ..store.encryption import KeyRing
from .fields import UnreadableError

_SOURCE = f"{SOURCE}/legacy"

_IMPORT = "import:"

_SEALED = frozenset({CommandType.CREATE, CommandType.COMPLETE, CommandType.IMPORT})
"""The commands that carry a payload."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record for the commands topic."""

    key: str
    value: bytes
    header: CommandHeader | None = None
    """Nothing where it is no command, and is to become a dead letter."""


def import_id(assessment_id: str) -> str:
    """The id of the one import that an assessment may have."""
    found = _IMPORT + assessment_id
    return found if len(found) <= MAX_ID_LENGTH else _IMPORT + sha256(assessment_id.encode()).hexdigest()


def encode(
    kind: CommandType,
    assessment_id: str,
    data: JsonObject,
    *,
    command_id: str,
    at: datetime | None,
    keys: KeyRing,
    expected_version: int | None = None,
) -> Outgoing:
    """A command, with its payload sealed where there are keys.

    Raises:
        UnreadableError: a worker would refuse it.
    """
    if keys and MEMBER in data:
        raise UnreadableError(f"{MEMBER} is the name of what is encrypted here")
    write = partial(
        encode_command,
        command_id=command_id,
        command_type=kind,
        assessment_id=assessment_id,
        source=_SOURCE,
        time=at or datetime.now(UTC),
        expectedversion=expected_version,
    )
    try:
        value = write(data=data)
        command = decode_command(assessment_id.encode(), value, [], keys or None)
    except (NotACommandError, TypeError) as error:
        raise UnreadableError(str(error)) from error
    if isinstance(command, RefusedCommand):
        raise UnreadableError(command.rejection.message)
    if keys and kind in _SEALED:
        value = write(data=keys.seal(assessment_id, data))
    return Outgoing(assessment_id, value, command.header)


def untranslated(value: Any, assessment_id: str | None) -> Outgoing:
    """What could not be translated, as it came: the worker makes a dead letter of it, which can be redriven."""
    name = next((value[key] for key in ("type", "event") if value.get(key)), "?") if isinstance(value, dict) else "?"
    event = {"specversion": "1.0", "id": "untranslated", "type": f"legacy.{name}", "source": _SOURCE, "data": value}
    return Outgoing(assessment_id or "", orjson.dumps(event))
